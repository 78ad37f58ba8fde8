#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>

#include <fmt/ranges.h>

#include "data/shards/posix_file.h"
#include "kernels/copy/elementwise.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/checkpoint/tiling.h"

namespace ksa {
namespace {

// The box of a tensor that a rank holds, as whole rows or as columns of a matrix of `width` columns.
struct Box {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_column = 0;
  int64_t columns = 0;
  int64_t width = 0;

  // Elements of the tensor from the box's first to behind its last.
  [[nodiscard]] FlatRange Span() const {
    return {first_row * width + first_column, (first_row + rows - 1) * width + first_column + columns};
  }
};

// Where the elements `range` of a box go, counted inside the box: `out` [range.size()], of the tensor's type or a
// narrower one.
struct Target {
  Box box;
  FlatRange range;
  TensorView out;
};

struct PieceJob {
  const TensorEntry* tensor = nullptr;
  const TensorPiece* piece = nullptr;
  std::vector<Target> targets;
};

using Jobs = std::map<std::string, std::vector<PieceJob>>;  // by file, so that each is opened once

// `from` lies in host memory, `to` where the stream computes.
void CopyElements(const TensorView& from, const TensorView& to, const Stream& stream) {
  if (from.dtype == to.dtype) {
    CopyFromHost(from, to, stream);
    return;
  }
  const Stream host{.threads = stream.threads};
  if (to.device.IsCpu()) {
    Copy(from, to, host);
    return;
  }
  PoolAllocator scratch;
  const Tensor narrow = Tensor::Empty(from.shape, to.dtype, scratch);
  Copy(from, narrow, host);
  CopyFromHost(narrow, to, stream);
}

// `values` are the elements of a tensor from `first` on: copies those that the target wants.
void ScatterRun(const TensorView& values, int64_t first, const Target& target, const Stream& stream) {
  const Box& box = target.box;
  const int64_t end = first + values.size();
  // Whole rows are one stretch; of columns every row is.
  const int64_t stretch = box.columns == box.width ? box.rows * box.width : box.columns;
  const int64_t stretches = box.columns == box.width ? 1 : box.rows;
  const int64_t origin = box.first_row * box.width + box.first_column;
  const int64_t begin_row = stretches == 1 ? 0 : std::max<int64_t>(0, first / box.width - box.first_row);
  for (int64_t i = begin_row; i < stretches && origin + i * box.width < end; ++i) {
    const int64_t in_tensor = origin + i * box.width;  // first element of the stretch
    const int64_t in_box = i * box.columns;
    const FlatRange wanted = Intersect({in_box, in_box + stretch}, target.range);
    const FlatRange part =
        Intersect({first, end}, {wanted.begin - in_box + in_tensor, wanted.end - in_box + in_tensor});
    if (wanted.size() > 0 && part.size() > 0) {
      CopyElements(values.Rows(part.begin - first, part.size()),
                   target.out.Rows(part.begin - in_tensor + in_box - target.range.begin, part.size()),
                   stream);
    }
  }
}

// `chunk` holds elements [first, first + count) of the job's piece.
void Scatter(const PieceJob& job, const void* chunk, int64_t first, int64_t count, const Stream& stream) {
  TensorView source;
  source.data = const_cast<void*>(chunk);  // views don't tell readers from writers
  source.dtype = job.tensor->dtype;
  source.shape = {count};
  RunsOf runs(*job.tensor, *job.piece, first, first + count);
  for (Run run; runs.Next(run);) {
    const TensorView values = source.Rows(run.in_piece - first, run.size);
    for (const Target& target : job.targets) {
      ScatterRun(values, run.in_tensor, target, stream);
    }
  }
}

// Whether a piece may hold something of a target: both as rows and as columns.
bool Overlap(const TensorEntry& tensor, const TensorPiece& piece, const Target& target) {
  const Box& box = target.box;
  FlatRange span = box.Span();
  if (box.columns == box.width) {
    span = {span.begin + target.range.begin, span.begin + target.range.end};
  }
  if (Intersect(SpanOf(tensor, piece), span).size() == 0) {
    return false;
  }
  if (tensor.shape.size() != 2) {
    return true;
  }
  const FlatRange columns = {piece.offset[1], piece.offset[1] + piece.shape[1]};
  return Intersect(columns, {box.first_column, box.first_column + box.columns}).size() > 0;
}

void AddJobs(Jobs& jobs, const TensorEntry& tensor, const std::vector<Target>& targets) {
  for (const TensorPiece& piece : tensor.pieces) {
    const bool needed = std::any_of(
        targets.begin(), targets.end(), [&](const Target& target) { return Overlap(tensor, piece, target); });
    if (needed) {
      jobs[piece.file].push_back({&tensor, &piece, targets});
    }
  }
}

void RunJobs(const Checkpoint& checkpoint, const Jobs& jobs, const Stream& stream) {
  for (const auto& [name, list] : jobs) {
    const std::string path = checkpoint.path + "/" + name;
    PieceFile file(path);
    for (const PieceJob& job : list) {
      const uint64_t hash = file.Read(
          job.piece->dataset,
          job.tensor->dtype,
          job.piece->size(),
          [&](const void* chunk, int64_t first, int64_t count) { Scatter(job, chunk, first, count, stream); });
      if (hash != job.piece->xxh3) {
        Fail(ExitCode::kBadData,
             "{}: the dataset {} of the tensor {} is corrupt (its hash is {:016x}, the manifest says {:016x})",
             path,
             job.piece->dataset,
             job.tensor->name,
             hash,
             job.piece->xxh3);
      }
    }
  }
}

std::string Describe(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// One line for every tensor that is not the same in the model and in the checkpoint.
std::vector<std::string> Differences(const ParameterStore& store, const Manifest& manifest, bool moments) {
  std::vector<std::string> lines;
  std::map<std::string, const TensorEntry*> unclaimed;
  for (const TensorEntry& tensor : manifest.tensors) {
    if (moments || tensor.name.starts_with("weights/")) {
      unclaimed.emplace(tensor.name, &tensor);
    }
  }
  const auto compare = [&](const Parameter& parameter, const std::string& prefix) {
    const auto found = unclaimed.find(prefix + parameter.spec.name);
    if (found == unclaimed.end()) {
      lines.push_back(fmt::format("{}{}: not in the checkpoint", prefix, parameter.spec.name));
      return;
    }
    const TensorEntry& tensor = *found->second;
    std::vector<int64_t> shape;
    for (int d = 0; d < parameter.spec.shape.rank(); ++d) {
      shape.push_back(parameter.spec.shape[d]);
    }
    if (tensor.shape != shape) {
      lines.push_back(fmt::format(
          "{}: {} in the checkpoint, {} in the model", tensor.name, Describe(tensor.shape), Describe(shape)));
    }
    if (tensor.dtype != store.state_dtype()) {
      lines.push_back(fmt::format("{}: {} in the checkpoint, {} in the model (training.precision)",
                                  tensor.name,
                                  NameOf(tensor.dtype),
                                  NameOf(store.state_dtype())));
    }
    unclaimed.erase(found);
  };
  for (const Parameter& parameter : store.parameters()) {
    compare(parameter, "weights/");
    if (moments) {
      compare(parameter, "exp_avg/");
      compare(parameter, "exp_avg_sq/");
    }
  }
  for (const auto& [name, tensor] : unclaimed) {
    lines.push_back(fmt::format("{}: not in the model", name));
  }
  return lines;
}

// What this rank holds of a parameter.
Box BoxOf(const Parameter& parameter) {
  const Shape& whole = parameter.spec.shape;
  const int64_t width = whole.size() / whole[0];
  Box box = {.rows = parameter.shape[0], .columns = parameter.shape.size() / parameter.shape[0], .width = width};
  (box.columns == width ? box.first_row : box.first_column) = parameter.shard_begin;
  return box;
}

// Targets for one parameter of one state buffer: the parts that lie in this rank's shards.
template <typename RowsOf>
std::vector<Target> StateTargets(const ParameterStore& store, const Parameter& parameter, const RowsOf& rows) {
  std::vector<Target> targets;
  for (const FlatRange& shard : store.shards()) {
    const FlatRange held = Intersect(shard, {parameter.offset, parameter.offset + parameter.shape.size()});
    if (held.size() > 0) {
      const FlatRange inside = {held.begin - parameter.offset, held.end - parameter.offset};
      targets.push_back({BoxOf(parameter), inside, rows(held)});
    }
  }
  return targets;
}

}  // namespace

void LoadInto(ParameterStore& store, const Checkpoint& checkpoint, LoadParts parts, const Stream& stream) {
  const bool moments = parts == LoadParts::kWeightsAndMoments;
  if (const std::vector<std::string> lines = Differences(store, checkpoint.manifest, moments); !lines.empty()) {
    Fail(ExitCode::kConfig,
         "{}: a checkpoint of another model; {} difference(s):\n  {}",
         checkpoint.path,
         lines.size(),
         fmt::join(lines, "\n  "));
  }
  Jobs jobs;
  for (const Parameter& parameter : store.parameters()) {
    const auto entry = [&](const char* prefix) -> const TensorEntry& {
      const TensorEntry* found = checkpoint.manifest.Find(prefix + parameter.spec.name);
      KSA_CHECK(found != nullptr, "{} was found before", parameter.spec.name);
      return *found;
    };
    std::vector<Target> weights;
    if (store.has_separate_master()) {
      weights = StateTargets(store, parameter, [&](const FlatRange& range) { return store.Master(range); });
    }
    const int64_t size = parameter.shape.size();
    weights.push_back({BoxOf(parameter), {0, size}, parameter.value.Reshape({size})});
    AddJobs(jobs, entry("weights/"), weights);
    if (moments) {
      for (const auto& [prefix, buffer] :
           {std::pair{"exp_avg/", store.exp_avg()}, std::pair{"exp_avg_sq/", store.exp_avg_sq()}}) {
        AddJobs(jobs, entry(prefix), StateTargets(store, parameter, [&, flat = buffer](const FlatRange& range) {
                  return store.State(flat, range);
                }));
      }
    }
  }
  RunJobs(checkpoint, jobs, stream);
}

void ReadTensor(const Checkpoint& checkpoint, const TensorEntry& entry, const TensorView& out) {
  KSA_CHECK(out.dtype == entry.dtype && out.size() == entry.size(), "{} is read into another type or size", entry.name);
  Jobs jobs;
  const Box whole = {.rows = 1, .columns = entry.size(), .width = entry.size()};
  AddJobs(jobs, entry, {{whole, {0, entry.size()}, out.Reshape({entry.size()})}});
  RunJobs(checkpoint, jobs, Stream{});
}

}  // namespace ksa
