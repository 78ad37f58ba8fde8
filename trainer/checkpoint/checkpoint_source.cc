#include "trainer/checkpoint/checkpoint_source.h"

#include <algorithm>
#include <utility>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/tiling.h"

namespace ksa {
namespace {

constexpr std::string_view kWeights = "weights/";
constexpr int64_t kMostBytes = int64_t{1} << 60;  // no file is larger
constexpr size_t kMostOpenFiles = 512;  // half of what systems allow a process; more are opened again when needed

std::vector<Block> BlocksOf(const TensorPiece& piece) {
  Block box;
  for (size_t d = 0; d < piece.shape.size(); ++d) {
    box.push_back({piece.offset[d], piece.offset[d] + piece.shape[d]});
  }
  return BlocksOf(box, piece.flat);
}

// Where the elements of a piece lie in the tensor, when they are consecutive there; else empty.
FlatRange AsOneRun(const TensorEntry& tensor, const TensorPiece& piece) {
  RunsOf runs(tensor, piece, 0, piece.size());
  Run first;
  const bool one = runs.Next(first) && first.size == piece.size();
  return one ? FlatRange{first.in_tensor, first.in_tensor + first.size} : FlatRange{};
}

// `chunk` holds elements [first, first + count) of a piece.
void Scatter(const TensorEntry& tensor,
             const TensorPiece& piece,
             const void* chunk,
             int64_t first,
             int64_t count,
             const PartTarget& target) {
  TensorView source;
  source.data = const_cast<void*>(chunk);  // views don't tell readers from writers
  source.dtype = tensor.dtype;
  source.shape = {count};
  RunsOf runs(tensor, piece, first, first + count);
  for (Run run; runs.Next(run);) {
    target.Take(source.Rows(run.in_piece - first, run.size), run.in_tensor);
  }
}

// Runs `read`; what goes wrong when the checkpoint has gone meanwhile is not damage.
template <typename Read>
void UnlessGone(const Checkpoint& checkpoint, const Read& read) {
  try {
    read();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kOutOfMemory || !HasGone(checkpoint)) {
      throw;
    }
    Fail(ExitCode::kMissingInput,
         "{}: the checkpoint was removed or replaced while it was read, as a run that goes on does with old ones; run "
         "the same line again",
         checkpoint.path);
  }
}

// Sizes that a manifest says must be those of files before anybody takes memory for them.
void CheckLengths(const Checkpoint& checkpoint, const std::vector<const TensorEntry*>& tensors) {
  std::map<std::string, int64_t> bytes;
  for (const TensorEntry* tensor : tensors) {
    for (const TensorPiece& piece : tensor->pieces) {
      // A tensor has at most 2^48 elements, but a manifest may name many: the sum must not overflow.
      int64_t& sum = bytes[piece.file];
      sum = std::min(sum + piece.size() * SizeOf(tensor->dtype), kMostBytes);
    }
  }
  for (const auto& [name, needed] : bytes) {
    const std::string path = checkpoint.path + "/" + name;
    if (!Exists(path)) {
      Fail(ExitCode::kBadData, "{}: this file of the checkpoint is missing", path);
    }
    if (const int64_t found = FileBytes(path); found < needed) {
      Fail(ExitCode::kBadData, "{}: {} bytes, but its tensors take {}", path, found, needed);
    }
  }
}

}  // namespace

CheckpointSource::CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
  for (const TensorEntry& tensor : checkpoint.manifest.tensors) {
    tensors_.push_back({tensor.name, tensor.dtype, tensor.shape});
    entries_.emplace(tensor.name, &tensor);
  }
}

void CheckpointSource::Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) {
  const TensorEntry& entry = *entries_.at(tensor.name);
  KSA_CHECK(out.dtype == entry.dtype, "{} is read as {}", tensor.name, NameOf(out.dtype));
  const PartTarget target(entry.shape, part, out);
  const std::vector<Block> wanted = BlocksOf(part.box, part.range);
  UnlessGone(checkpoint_, [&] { ReadPieces(entry, target, wanted); });
}

void CheckpointSource::ReadPieces(const TensorEntry& tensor,
                                  const PartTarget& target,
                                  const std::vector<Block>& wanted) {
  for (const TensorPiece& piece : tensor.pieces) {
    if (Overlap(BlocksOf(piece), wanted)) {
      ReadPiece(tensor, piece, target);
    }
  }
}

void CheckpointSource::ReadPiece(const TensorEntry& tensor, const TensorPiece& piece, const PartTarget& target) {
  const PieceFile::Use use = [&](const void* chunk, int64_t first, int64_t count) {
    Scatter(tensor, piece, chunk, first, count, target);
  };
  const PieceFile& file = Open(piece.file);
  if (verified_.contains(&piece)) {
    const FlatRange run = AsOneRun(tensor, piece);
    const FlatRange needed = run.size() > 0 ? Intersect(run, target.Span()) : FlatRange{0, piece.size()};
    file.ReadVerified(tensor, piece, {needed.begin - run.begin, needed.end - run.begin}, use);
    return;
  }
  file.ReadPiece(tensor, piece, use);
  verified_.insert(&piece);
  ++count_.pieces;
  count_.bytes += piece.size() * SizeOf(tensor.dtype);
}

// Files stay open: most hold pieces of every tensor.
const PieceFile& CheckpointSource::Open(const std::string& name) {
  seen_.insert(name);
  auto found = files_.find(name);
  if (found == files_.end()) {
    if (files_.size() == kMostOpenFiles) {
      files_.clear();
    }
    found = files_.emplace(name, PieceFile(checkpoint_.path + "/" + name)).first;
  }
  return found->second;
}

LoadCount CheckpointSource::count() const {
  LoadCount count = count_;
  count.files = static_cast<int64_t>(seen_.size());
  return count;
}

void CheckpointSource::RefuseShortFiles(const std::vector<const TensorEntry*>& tensors) const {
  UnlessGone(checkpoint_, [&] { CheckLengths(checkpoint_, tensors); });
}

void CheckpointSource::RefuseShortFiles() const {
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& tensor : checkpoint_.manifest.tensors) {
    tensors.push_back(&tensor);
  }
  RefuseShortFiles(tensors);
}

WeightsOfCheckpoint::WeightsOfCheckpoint(Checkpoint checkpoint)
    : checkpoint_(std::move(checkpoint)), source_(checkpoint_) {
  std::vector<const TensorEntry*> weights;
  for (const TensorEntry& tensor : checkpoint_.manifest.tensors) {
    if (tensor.name.starts_with(kWeights)) {
      tensors_.push_back({tensor.name.substr(kWeights.size()), tensor.dtype, tensor.shape});
      weights.push_back(&tensor);
    }
  }
  source_.RefuseShortFiles(weights);
}

void WeightsOfCheckpoint::Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) {
  TensorInfo inside = tensor;
  inside.name = std::string(kWeights) + tensor.name;
  source_.Read(inside, part, out);
}

}  // namespace ksa
