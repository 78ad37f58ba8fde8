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
  const int64_t width = block.columns.size();
  std::vector<Block> blocks;
  const auto add = [&](FlatRange rows, FlatRange columns) {
    if (rows.size() > 0 && columns.size() > 0) {
      blocks.push_back({{block.rows.begin + rows.begin, block.rows.begin + rows.end},
                        {block.columns.begin + columns.begin, block.columns.begin + columns.end}});
    }
  };
  const int64_t first = range.begin / width;
  const int64_t last = range.end / width;
  if (first == last) {
    add({first, first + 1}, {range.begin % width, range.end % width});
    return blocks;
  }
  const int64_t whole = (range.begin + width - 1) / width;  // the first whole row
  add({first, whole}, {range.begin % width, width});
  add({whole, last}, {0, width});
  add({last, last + 1}, {0, range.end % width});
  return blocks;
}

bool Overlap(const std::vector<Block>& a, const std::vector<Block>& b) {
  for (const Block& x : a) {
    for (const Block& y : b) {
      if (Intersect(x.rows, y.rows).size() > 0 && Intersect(x.columns, y.columns).size() > 0) {
        return true;
      }
    }
  }
  return false;
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
