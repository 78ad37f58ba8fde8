#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include <fmt/ranges.h>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/checkpoint/tiling.h"

namespace ksa {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 60;  // no file is larger
constexpr size_t kMostOpenFiles = 512;  // half of what systems allow a process; more are opened again when needed

// Where the elements `range` of what a rank holds of a tensor go, counted inside: `out` [range.size()], the tensor's
// type, in host memory.
struct Target {
  HeldRuns held;
  FlatRange range;
  std::vector<Block> blocks;  // the same elements
  TensorView out;
};

// `values` are the elements of a tensor from `first` on: copies those that the target wants.
void ScatterRun(const TensorView& values, int64_t first, const Target& target) {
  const HeldRuns& held = target.held;
  const int64_t end = first + values.size();
  const int64_t begin_run = std::max<int64_t>(0, (first - held.first) / held.stride);
  for (int64_t i = begin_run; i < held.runs && held.first + i * held.stride < end; ++i) {
    const int64_t in_tensor = held.first + i * held.stride;  // first element of the run
    const int64_t in_held = i * held.length;
    const FlatRange wanted = Intersect({in_held, in_held + held.length}, target.range);
    const FlatRange part =
        Intersect({first, end}, {wanted.begin - in_held + in_tensor, wanted.end - in_held + in_tensor});
    if (wanted.size() > 0 && part.size() > 0) {
      const TensorView from = values.Rows(part.begin - first, part.size());
      const TensorView to = target.out.Rows(part.begin - in_tensor + in_held - target.range.begin, part.size());
      std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
    }
  }
}

// `chunk` holds elements [first, first + count) of a piece.
void Scatter(const TensorEntry& tensor,
             const TensorPiece& piece,
             const void* chunk,
             int64_t first,
             int64_t count,
             const std::vector<Target>& targets) {
  TensorView source;
  source.data = const_cast<void*>(chunk);  // views don't tell readers from writers
  source.dtype = tensor.dtype;
  source.shape = {count};
  RunsOf runs(tensor, piece, first, first + count);
  for (Run run; runs.Next(run);) {
    const TensorView values = source.Rows(run.in_piece - first, run.size);
    for (const Target& target : targets) {
      ScatterRun(values, run.in_tensor, target);
    }
  }
}

std::vector<Block> BlocksOf(const TensorPiece& piece) {
  Block box;
  for (size_t d = 0; d < piece.shape.size(); ++d) {
    box.push_back({piece.offset[d], piece.offset[d] + piece.shape[d]});
  }
  return BlocksOf(box, piece.flat);
}

// Reads tensors of a checkpoint.
class Reader {
 public:
  explicit Reader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // Fills the targets from the pieces that hold something of them.
  void Read(const TensorEntry& tensor, const std::vector<Target>& targets) {
    for (const TensorPiece& piece : tensor.pieces) {
      const std::vector<Block> blocks = BlocksOf(piece);
      const bool needed = std::any_of(
          targets.begin(), targets.end(), [&](const Target& target) { return Overlap(blocks, target.blocks); });
      if (needed) {
        ReadPiece(tensor, piece, targets);
      }
    }
  }

  void ReadPiece(const TensorEntry& tensor, const TensorPiece& piece, const std::vector<Target>& targets) {
    Open(piece.file).ReadPiece(tensor, piece, [&](const void* chunk, int64_t first, int64_t count) {
      Scatter(tensor, piece, chunk, first, count, targets);
    });
    ++count_.pieces;
    count_.bytes += piece.size() * SizeOf(tensor.dtype);
  }

  [[nodiscard]] LoadCount count() const {
    LoadCount count = count_;
    count.files = static_cast<int64_t>(seen_.size());
    return count;
  }

 private:
  // Files stay open: most hold pieces of every tensor.
  PieceFile& Open(const std::string& name) {
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

  const Checkpoint& checkpoint_;
  std::map<std::string, PieceFile> files_;
  std::set<std::string> seen_;
  LoadCount count_;
};

std::string Describe(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// One line for every tensor that is not the same in the model and in the checkpoint.
std::vector<std::string> Differences(const std::vector<ParameterSpec>& specs,
                                     DType state,
                                     const Manifest& manifest,
                                     bool moments) {
  std::vector<std::string> lines;
  std::map<std::string, const TensorEntry*> unclaimed;
  for (const TensorEntry& tensor : manifest.tensors) {
    if (moments || tensor.name.starts_with("weights/")) {
      unclaimed.emplace(tensor.name, &tensor);
    }
  }
  const auto compare = [&](const ParameterSpec& spec, const std::string& prefix) {
    const auto found = unclaimed.find(prefix + spec.name);
    if (found == unclaimed.end()) {
      lines.push_back(fmt::format("{}{}: not in the checkpoint", prefix, spec.name));
      return;
    }
    const TensorEntry& tensor = *found->second;
    if (const std::vector<int64_t> shape = DimsOf(spec.shape); tensor.shape != shape) {
      lines.push_back(fmt::format(
          "{}: {} in the checkpoint, {} in the model", tensor.name, Describe(tensor.shape), Describe(shape)));
    }
    if (tensor.dtype != state) {
      lines.push_back(fmt::format("{}: {} in the checkpoint, {} in the model (training.precision)",
                                  tensor.name,
                                  NameOf(tensor.dtype),
                                  NameOf(state)));
    }
    unclaimed.erase(found);
  };
  for (const ParameterSpec& spec : specs) {
    compare(spec, "weights/");
    if (moments) {
      compare(spec, "exp_avg/");
      compare(spec, "exp_avg_sq/");
    }
  }
  for (const auto& [name, tensor] : unclaimed) {
    lines.push_back(fmt::format("{}: not in the model", name));
  }
  return lines;
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

void RefuseOtherModel(const std::vector<ParameterSpec>& specs,
                      DType state,
                      const Checkpoint& checkpoint,
                      LoadParts parts) {
  const bool moments = parts == LoadParts::kWeightsAndMoments;
  if (const std::vector<std::string> lines = Differences(specs, state, checkpoint.manifest, moments); !lines.empty()) {
    Fail(ExitCode::kConfig,
         "{}: a checkpoint of another model; {} difference(s):\n  {}",
         checkpoint.path,
         lines.size(),
         fmt::join(lines, "\n  "));
  }
}

// Sizes that a manifest says must be those of files before anybody takes memory for them.
void RefuseShortFiles(const Checkpoint& checkpoint, const std::vector<const TensorEntry*>& tensors) {
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

// What this rank holds of a parameter.
Block BoxOf(const Parameter& parameter) {
  const Placement& tensor = parameter.spec.tensor;
  Block box;
  for (int d = 0; d < parameter.shape.rank(); ++d) {
    const bool cut = tensor.kind == Placement::Kind::kSharded && tensor.dim == d;
    const int64_t begin = cut ? parameter.shard_begin : 0;
    box.push_back({begin, begin + parameter.shape[d]});
  }
  return box;
}

// Fills a store. Every tensor is put together in host memory, in the state's type, and then goes where it belongs at
// once: its elements may come from many pieces, a row or less at a time.
class Loader {
 public:
  Loader(ParameterStore& store, const Checkpoint& checkpoint, const Stream& stream)
      : store_(store), checkpoint_(checkpoint), stream_(stream), reader_(checkpoint) {}

  void LoadWeights(const Parameter& parameter) {
    if (parameter.shape.size() > 0) {
      ReadShare("weights/", parameter, {0, parameter.shape.size()}, [&](const TensorView& values) {
        store_.SetWeights(parameter, values, stream_);
      });
    }
  }

  void LoadMoments(const Parameter& parameter) {
    const std::array<std::pair<const char*, TensorView>, 2> kinds{
        {{"exp_avg/", store_.exp_avg()}, {"exp_avg_sq/", store_.exp_avg_sq()}}};
    for (const FlatRange& shard : store_.shards()) {
      const FlatRange held = Intersect(shard, {parameter.offset, parameter.offset + parameter.shape.size()});
      if (held.size() == 0) {
        continue;
      }
      for (const auto& [prefix, buffer] : kinds) {
        const FlatRange inside = {held.begin - parameter.offset, held.end - parameter.offset};
        ReadShare(prefix, parameter, inside, [&, &flat = buffer](const TensorView& values) {
          CopyFromHost(values, store_.State(flat, held), stream_);
        });
      }
    }
  }

  [[nodiscard]] LoadCount count() const { return reader_.count(); }

 private:
  template <typename Use>
  void ReadShare(const char* prefix, const Parameter& parameter, const FlatRange& range, const Use& use) {
    const TensorEntry* tensor = checkpoint_.manifest.Find(prefix + parameter.spec.name);
    KSA_CHECK(tensor != nullptr, "{} was found before", parameter.spec.name);
    HostAllocator memory;  // gives everything back when the share is where it belongs
    const Tensor values = Tensor::Empty({range.size()}, tensor->dtype, memory);
    reader_.Read(*tensor, {{HeldRunsOf(parameter), range, BlocksOf(BoxOf(parameter), range), values}});
    use(values.view());
  }

  ParameterStore& store_;
  const Checkpoint& checkpoint_;
  const Stream& stream_;
  Reader reader_;
};

}  // namespace

void CheckSameModel(const std::vector<ParameterSpec>& specs,
                    DType state,
                    const Checkpoint& checkpoint,
                    LoadParts parts) {
  RefuseOtherModel(specs, state, checkpoint, parts);
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& tensor : checkpoint.manifest.tensors) {
    tensors.push_back(&tensor);
  }
  UnlessGone(checkpoint, [&] { RefuseShortFiles(checkpoint, tensors); });
}

LoadCount LoadInto(ParameterStore& store, const Checkpoint& checkpoint, LoadParts parts, const Stream& stream) {
  std::vector<ParameterSpec> specs;
  for (const Parameter& parameter : store.parameters()) {
    specs.push_back(parameter.spec);
  }
  RefuseOtherModel(specs, store.state_dtype(), checkpoint, parts);
  const bool moments = parts == LoadParts::kWeightsAndMoments;
  Loader loader(store, checkpoint, stream);
  UnlessGone(checkpoint, [&] {
    for (const Parameter& parameter : store.parameters()) {
      loader.LoadWeights(parameter);
      if (moments) {
        loader.LoadMoments(parameter);
      }
    }
  });
  return loader.count();
}

Tensor ReadTensor(const Checkpoint& checkpoint, const TensorEntry& entry, Allocator& allocator) {
  Tensor out;
  UnlessGone(checkpoint, [&] {
    RefuseShortFiles(checkpoint, {&entry});
    const int64_t size = entry.size();
    out = Tensor::Empty({size}, entry.dtype, allocator);
    const Target whole = {{1, size, size, 0}, {0, size}, {}, out};
    Reader reader(checkpoint);
    for (const TensorPiece& piece : entry.pieces) {
      reader.ReadPiece(entry, piece, {whole});
    }
  });
  return out;
}

}  // namespace ksa
