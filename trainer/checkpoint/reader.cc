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

// Where elements [range) of a tensor go: `out` [range.size()], of the tensor's type or a narrower one.
struct Target {
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

// `chunk` holds elements [first, first + count) of the job's piece.
void Scatter(const PieceJob& job, const void* chunk, int64_t first, int64_t count, const Stream& stream) {
  TensorView source;
  source.data = const_cast<void*>(chunk);  // views don't tell readers from writers
  source.dtype = job.tensor->dtype;
  source.shape = {count};
  RunsOf runs(*job.tensor, *job.piece, first, first + count);
  for (Run run; runs.Next(run);) {
    for (const Target& target : job.targets) {
      const int64_t begin = std::max(run.in_tensor, target.range.begin);
      const int64_t end = std::min(run.in_tensor + run.size, target.range.end);
      if (begin < end) {
        CopyElements(source.Rows(run.in_piece - first + begin - run.in_tensor, end - begin),
                     target.out.Rows(begin - target.range.begin, end - begin),
                     stream);
      }
    }
  }
}

void AddJobs(Jobs& jobs, const TensorEntry& tensor, const std::vector<Target>& targets) {
  for (const TensorPiece& piece : tensor.pieces) {
    const FlatRange span = SpanOf(tensor, piece);
    const bool needed = std::any_of(targets.begin(), targets.end(), [&](const Target& target) {
      return std::max(span.begin, target.range.begin) < std::min(span.end, target.range.end);
    });
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
    const int64_t size = parameter.spec.shape.size();
    const FlatRange held{std::max(store.shard().begin - parameter.offset, int64_t{0}),
                         std::min(store.shard().end - parameter.offset, size)};
    // A target of what this rank holds of a sharded buffer; none where the shard holds nothing of the parameter.
    const auto sharded = [&](const TensorView& buffer) {
      std::vector<Target> targets;
      if (held.begin < held.end) {
        targets.push_back({held, buffer.Rows(parameter.offset + held.begin - store.shard().begin, held.size())});
      }
      return targets;
    };
    const auto entry = [&](const char* prefix) -> const TensorEntry& {
      const TensorEntry* found = checkpoint.manifest.Find(prefix + parameter.spec.name);
      KSA_CHECK(found != nullptr, "{} was found before", parameter.spec.name);
      return *found;
    };
    std::vector<Target> weights = store.has_separate_master() ? sharded(store.master()) : std::vector<Target>();
    weights.push_back({{0, size}, parameter.value.Reshape({size})});
    AddJobs(jobs, entry("weights/"), weights);
    if (moments) {
      AddJobs(jobs, entry("exp_avg/"), sharded(store.exp_avg()));
      AddJobs(jobs, entry("exp_avg_sq/"), sharded(store.exp_avg_sq()));
    }
  }
  RunJobs(checkpoint, jobs, stream);
}

void ReadTensor(const Checkpoint& checkpoint, const TensorEntry& entry, const TensorView& out) {
  KSA_CHECK(out.dtype == entry.dtype && out.size() == entry.size(), "{} is read into another type or size", entry.name);
  Jobs jobs;
  AddJobs(jobs, entry, {{{0, entry.size()}, out.Reshape({entry.size()})}});
  RunJobs(checkpoint, jobs, Stream{});
}

}  // namespace ksa
