#include "trainer/checkpoint/tiling.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>
#include <vector>

namespace ksa {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 48;
constexpr size_t kMostBoxes = 4096;  // of a tensor: bounds the pairwise comparison

using Box = std::pair<std::vector<int64_t>, std::vector<int64_t>>;  // offset, shape

std::string BoxFault(const TensorEntry& tensor, const TensorPiece& piece) {
  if (piece.offset.size() != tensor.shape.size() || piece.shape.size() != tensor.shape.size()) {
    return fmt::format("the piece in {} has another number of dimensions than the tensor", piece.dataset);
  }
  for (size_t d = 0; d < tensor.shape.size(); ++d) {
    // Written so that nothing overflows, whatever the numbers.
    if (piece.offset[d] < 0 || piece.shape[d] < 1 || piece.shape[d] > tensor.shape[d] ||
        piece.offset[d] > tensor.shape[d] - piece.shape[d]) {
      return fmt::format("the piece in {} lies outside of the tensor in dimension {}", piece.dataset, d);
    }
  }
  const int64_t size = CheckedSize(piece.shape);
  if (piece.flat.begin < 0 || piece.flat.begin >= piece.flat.end || piece.flat.end > size) {
    return fmt::format(
        "the piece in {} has the range [{}, {}) of {} elements", piece.dataset, piece.flat.begin, piece.flat.end, size);
  }
  return {};
}

bool Disjoint(const Box& a, const Box& b) {
  for (size_t d = 0; d < a.first.size(); ++d) {
    if (a.first[d] + a.second[d] <= b.first[d] || b.first[d] + b.second[d] <= a.first[d]) {
      return true;
    }
  }
  return false;
}

// The ranges must be sorted.
std::string RangesFault(const std::vector<FlatRange>& ranges, int64_t size) {
  int64_t covered = 0;
  for (const FlatRange& range : ranges) {
    if (range.begin != covered) {
      return fmt::format("its pieces {} elements [{}, {})",
                         range.begin > covered ? "leave out" : "hold twice the",
                         std::min(range.begin, covered),
                         std::max(range.begin, covered));
    }
    covered = range.end;
  }
  return covered == size ? std::string() : fmt::format("its pieces leave out elements [{}, {})", covered, size);
}

// The same of the dimensions of `block` from `dim` on; those before it are one index wide.
void AddBlocks(const Block& block, size_t dim, const FlatRange& range, std::vector<Block>& blocks) {
  if (range.size() == 0) {
    return;
  }
  int64_t width = 1;  // elements behind an index of `dim`
  for (size_t d = dim + 1; d < block.size(); ++d) {
    width *= block[d].size();
  }
  const int64_t whole = (range.begin + width - 1) / width;  // the first index of which all is in the range
  const int64_t last = range.end / width;                   // of which some is
  const auto at = [&](int64_t first, int64_t end) {
    Block part = block;
    part[dim] = {block[dim].begin + first, block[dim].begin + end};
    return part;
  };
  if (whole > last) {  // inside one index
    AddBlocks(at(last, last + 1), dim + 1, {range.begin - last * width, range.end - last * width}, blocks);
    return;
  }
  if (range.begin < whole * width) {
    AddBlocks(at(whole - 1, whole), dim + 1, {range.begin - (whole - 1) * width, width}, blocks);
  }
  if (whole < last) {
    blocks.push_back(at(whole, last));
  }
  if (last * width < range.end) {
    AddBlocks(at(last, last + 1), dim + 1, {0, range.end - last * width}, blocks);
  }
}

bool Meet(const Block& a, const Block& b) {
  for (size_t d = 0; d < a.size(); ++d) {
    if (Intersect(a[d], b[d]).size() == 0) {
      return false;
    }
  }
  return true;
}

// The element of the tensor that is element `box_index` of the piece's box.
int64_t TensorIndex(const TensorEntry& tensor, const TensorPiece& piece, int64_t box_index) {
  int64_t index = 0;
  int64_t stride = 1;
  for (size_t d = tensor.shape.size(); d-- > 0;) {
    index += (piece.offset[d] + box_index % piece.shape[d]) * stride;
    box_index /= piece.shape[d];
    stride *= tensor.shape[d];
  }
  return index;
}

}  // namespace

std::vector<int64_t> DimsOf(const Shape& shape) {
  std::vector<int64_t> dims;
  for (int d = 0; d < shape.rank(); ++d) {
    dims.push_back(shape[d]);
  }
  return dims;
}

int64_t CheckedSize(const std::vector<int64_t>& shape) {
  int64_t size = 1;
  for (const int64_t dim : shape) {
    if (dim < 1 || dim > kMostElements / size) {
      return -1;
    }
    size *= dim;
  }
  return size;
}

std::string TilingFault(const TensorEntry& tensor) {
  std::map<Box, std::vector<FlatRange>> boxes;
  for (const TensorPiece& piece : tensor.pieces) {
    if (std::string fault = BoxFault(tensor, piece); !fault.empty()) {
      return fault;
    }
    boxes[{piece.offset, piece.shape}].push_back(piece.flat);
  }
  if (boxes.size() > kMostBoxes) {
    return fmt::format("{} boxes; at most {} are read", boxes.size(), kMostBoxes);
  }
  int64_t covered = 0;
  for (auto& [box, ranges] : boxes) {
    std::sort(ranges.begin(), ranges.end(), [](const FlatRange& a, const FlatRange& b) { return a.begin < b.begin; });
    const int64_t size = CheckedSize(box.second);
    if (std::string fault = RangesFault(ranges, size); !fault.empty()) {
      return fault;
    }
    covered += size;
  }
  for (auto a = boxes.begin(); a != boxes.end(); ++a) {
    for (auto b = std::next(a); b != boxes.end(); ++b) {
      if (!Disjoint(a->first, b->first)) {
        return "two of its pieces overlap";
      }
    }
  }
  // Disjoint boxes inside the tensor that hold as many elements as it does leave no hole.
  if (covered != tensor.size()) {
    return fmt::format("its pieces hold {} of {} elements", covered, tensor.size());
  }
  return {};
}

std::vector<Block> BlocksOf(const Block& block, const FlatRange& range) {
  std::vector<Block> blocks;
  AddBlocks(block, 0, range, blocks);
  return blocks;
}

bool Overlap(const std::vector<Block>& a, const std::vector<Block>& b) {
  return std::any_of(a.begin(), a.end(), [&](const Block& x) {
    return std::any_of(b.begin(), b.end(), [&](const Block& y) { return Meet(x, y); });
  });
}

RunsOf::RunsOf(const TensorEntry& tensor, const TensorPiece& piece, int64_t begin, int64_t end)
    : tensor_(tensor), piece_(piece), position_(piece.flat.begin + begin), end_(piece.flat.begin + end), run_(1) {
  // Trailing dimensions that the box spans whole, and the one before them.
  for (size_t d = tensor.shape.size(); d-- > 0;) {
    run_ *= piece.shape[d];
    if (piece.shape[d] != tensor.shape[d]) {
      break;
    }
  }
}

bool RunsOf::Next(Run& run) {
  if (position_ >= end_) {
    return false;
  }
  const int64_t stop = std::min(end_, (position_ / run_ + 1) * run_);
  run = {position_ - piece_.flat.begin, TensorIndex(tensor_, piece_, position_), stop - position_};
  position_ = stop;
  return true;
}

}  // namespace ksa
