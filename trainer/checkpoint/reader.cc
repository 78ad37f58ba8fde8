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

// Where the elements `range` of a box of a matrix go, counted inside the box: `out` [range.size()], the tensor's type,
// in host memory.
struct Target {
  Block box;
  int64_t width = 0;  // columns of the whole matrix
  FlatRange range;
  TensorView out;
};

// `values` are the elements of a tensor from `first` on: copies those that the target wants.
void ScatterRun(const TensorView& values, int64_t first, const Target& target) {
  const int64_t columns = target.box.columns.size();
  const int64_t width = target.width;
  const int64_t end = first + values.size();
  // Whole rows are one stretch; of columns every row is.
  const bool whole_rows = columns == width;
  const int64_t stretch = whole_rows ? target.box.rows.size() * width : columns;
  const int64_t stretches = whole_rows ? 1 : target.box.rows.size();
  const int64_t origin = target.box.rows.begin * width + target.box.columns.begin;
  const int64_t begin_row = whole_rows ? 0 : std::max<int64_t>(0, first / width - target.box.rows.begin);
  for (int64_t i = begin_row; i < stretches && origin + i * width < end; ++i) {
    const int64_t in_tensor = origin + i * width;  // first element of the stretch
    const int64_t in_box = i * columns;
    const FlatRange wanted = Intersect({in_box, in_box + stretch}, target.range);
    const FlatRange part =
        Intersect({first, end}, {wanted.begin - in_box + in_tensor, wanted.end - in_box + in_tensor});
    if (wanted.size() > 0 && part.size() > 0) {
      const TensorView from = values.Rows(part.begin - first, part.size());
      const TensorView to = target.out.Rows(part.begin - in_tensor + in_box - target.range.begin, part.size());
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

// A piece of a vector or a matrix, as a vector's target sees it: its elements are rows of one column.
std::vector<Block> BlocksOf(const TensorPiece& piece) {
  const bool matrix = piece.shape.size() == 2;
  const FlatRange columns = matrix ? FlatRange{piece.offset[1], piece.offset[1] + piece.shape[1]} : FlatRange{0, 1};
  return BlocksOf({{piece.offset[0], piece.offset[0] + piece.shape[0]}, columns}, piece.flat);
}

// Reads tensors of a checkpoint.
class Reader {
 public:
  explicit Reader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // Fills the targets, of a vector or a matrix, from the pieces that hold something of them.
  void Read(const TensorEntry& tensor, const std::vector<Target>& targets) {
    for (const TensorPiece& piece : tensor.pieces) {
      const std::vector<Block> blocks = BlocksOf(piece);
      const bool needed = std::any_of(targets.begin(), targets.end(), [&](const Target& target) {
        return Overlap(blocks, BlocksOf(target.box, target.range));
      });
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

// What this rank holds of a parameter, as a matrix; a vector has one column.
Block BoxOf(const Parameter& parameter) {
  const Shape& shape = parameter.shape;
  const int64_t columns = shape.size() / shape[0];
  Block box = {{0, shape[0]}, {0, columns}};
  FlatRange& cut = columns == parameter.spec.shape.size() / parameter.spec.shape[0] ? box.rows : box.columns;
  cut = {cut.begin + parameter.shard_begin, cut.end + parameter.shard_begin};
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
    const int64_t width = parameter.spec.shape.size() / parameter.spec.shape[0];
    reader_.Read(*tensor, {{BoxOf(parameter), width, range, values}});
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
    const Target whole = {{{0, 1}, {0, size}}, size, {0, size}, out};
    Reader reader(checkpoint);
    for (const TensorPiece& piece : entry.pieces) {
      reader.ReadPiece(entry, piece, {whole});
    }
  });
  return out;
}

}  // namespace ksa
