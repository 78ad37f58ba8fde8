#include <array>
#include <map>
#include <utility>

#include <fmt/ranges.h>

#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/checkpoint_source.h"
#include "trainer/checkpoint/tiling.h"

namespace ksa {
namespace {

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
          "{}: {} in the checkpoint, {} in the model", tensor.name, DescribeShape(tensor.shape), DescribeShape(shape)));
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
    if (moments && spec.trained) {
      compare(spec, "exp_avg/");
      compare(spec, "exp_avg_sq/");
    }
  }
  for (const auto& [name, tensor] : unclaimed) {
    lines.push_back(fmt::format("{}: not in the model", name));
  }
  return lines;
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
  Loader(ParameterStore& store, TensorSource& source, std::string weights, const Stream& stream)
      : store_(store), source_(source), weights_(std::move(weights)), stream_(stream) {}

  void LoadWeights(const Parameter& parameter) {
    if (parameter.shape.size() > 0) {
      ReadShare(weights_, parameter, {0, parameter.shape.size()}, [&](const TensorView& values) {
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

 private:
  template <typename Use>
  void ReadShare(const std::string& prefix, const Parameter& parameter, const FlatRange& range, const Use& use) {
    const TensorInfo* tensor = source_.Find(prefix + parameter.spec.name);
    KSA_CHECK(tensor != nullptr, "{} was found before", parameter.spec.name);
    HostAllocator memory;  // gives everything back when the share is where it belongs
    const Tensor values = Tensor::Empty({range.size()}, store_.state_dtype(), memory);
    ReadAs(source_, *tensor, {BoxOf(parameter), range}, values);
    use(values.view());
  }

  ParameterStore& store_;
  TensorSource& source_;
  std::string weights_;  // the prefix of their names
  const Stream& stream_;
};

}  // namespace

void CheckSameModel(const std::vector<ParameterSpec>& specs,
                    DType state,
                    const Checkpoint& checkpoint,
                    LoadParts parts) {
  RefuseOtherModel(specs, state, checkpoint, parts);
  CheckpointSource(checkpoint).RefuseShortFiles();
}

LoadCount LoadInto(ParameterStore& store, const Checkpoint& checkpoint, LoadParts parts, const Stream& stream) {
  std::vector<ParameterSpec> specs;
  for (const Parameter& parameter : store.parameters()) {
    specs.push_back(parameter.spec);
  }
  RefuseOtherModel(specs, store.state_dtype(), checkpoint, parts);
  const bool moments = parts == LoadParts::kWeightsAndMoments;
  CheckpointSource source(checkpoint);
  Loader loader(store, source, "weights/", stream);
  for (const Parameter& parameter : store.parameters()) {
    loader.LoadWeights(parameter);
    if (moments && parameter.spec.trained) {
      loader.LoadMoments(parameter);
    }
  }
  return source.count();
}

void LoadWeights(ParameterStore& store, TensorSource& source, const Stream& stream) {
  Loader loader(store, source, "", stream);
  for (const Parameter& parameter : store.parameters()) {
    loader.LoadWeights(parameter);
  }
}

Tensor ReadTensor(const Checkpoint& checkpoint, const TensorEntry& entry, Allocator& allocator) {
  CheckpointSource source(checkpoint);
  source.RefuseShortFiles({&entry});
  const TensorInfo* tensor = source.Find(entry.name);
  KSA_CHECK(tensor != nullptr, "{} is of another checkpoint than {}", entry.name, checkpoint.path);
  Tensor out = Tensor::Empty({entry.size()}, entry.dtype, allocator);
  source.Read(*tensor, WholeOf(*tensor), out);
  return out;
}

}  // namespace ksa
