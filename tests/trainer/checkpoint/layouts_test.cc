// Checkpoints of whole models, saved on one mesh and loaded on another: every element comes back in bits, has one
// writer, and no rank reads what it does not need.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "kernels/core/host_allocator.h"
#include "model/ksa/parameters.h"
#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/checkpoint/tiling.h"
#include "trainer/config/load.h"
#include "trainer/step/training_state.h"

namespace ksa::testing {
namespace {

struct Layout {
  MeshShape mesh;
  int32_t zero = 0;
  int64_t bucket_elements = INT64_MAX;
  bool sequence_parallel = false;

  [[nodiscard]] std::string ToString() const {
    return fmt::format("dp {} cp {} tp {}, ZeRO {}, buckets of {}, rows in parts {}",
                       mesh.data,
                       mesh.context,
                       mesh.tensor,
                       zero,
                       bucket_elements,
                       sequence_parallel);
  }
};

// Nothing divides: 97 ids, 10 columns, 7 of the MLP.
ModelConfig Model(int heads, int kv_heads, int intermediate = 7) {
  return ParseConfig(
             fmt::format("run: {{name: layouts}}\n"
                         "model: {{vocab_size: 97, hidden_size: 10, intermediate_size: {}, num_hidden_layers: 2,"
                         " num_attention_heads: {}, num_key_value_heads: {}, head_dim: 4,"
                         " attention: {{pattern: [ksa], ksa: {{chunk_size: 4, window_chunks: 2}}}}}}\n"
                         "data: {{train: [{{path: data/a/train}}]}}\n"
                         "training: {{sequence_length: 32, global_batch_size: 1, max_steps: 1}}\n"
                         "optimizer: {{lr: 1e-3}}\n",
                         intermediate,
                         heads,
                         kv_heads),
             "layouts.yaml",
             {})
      .config.model;
}

// What the ranks of a layout hold.
using SpecsOf = std::function<std::vector<ParameterSpec>(const Layout& layout)>;

SpecsOf SpecsOfModel(const ModelConfig& model) {
  return [model](const Layout& layout) {
    return ParameterSpecs(model, static_cast<int>(layout.mesh.tensor), layout.sequence_parallel);
  };
}

// Tensors of one to four dimensions, cut in any of them; those of the convolution kind are [channels, 1, taps].
std::vector<ParameterSpec> SpecsOfAnyRank(const Layout& layout) {
  const int replicas = layout.mesh.tensor == 6 ? 2 : 1;
  return {{.name = "conv1d", .shape = {7, 1, 4}, .decays = true, .tensor = Placement::Sharded(0)},
          {.name = "conv1d.replicas", .shape = {3, 1, 3}, .tensor = Placement::Sharded(0), .replicas = replicas},
          {.name = "middle", .shape = {3, 5, 2}, .decays = true, .tensor = Placement::Sharded(1)},
          {.name = "last", .shape = {2, 3, 7}, .tensor = Placement::Sharded(2)},
          {.name = "whole", .shape = {2, 3, 2}},
          {.name = "four", .shape = {2, 3, 5, 3}, .tensor = Placement::Sharded(2)},
          {.name = "vector", .shape = {13}, .tensor = Placement::Sharded(0)}};
}

// Calls work(world, store) as every rank of a layout.
void OnLayout(const Layout& layout,
              const SpecsOf& specs,
              DType dtype,
              const std::function<void(Communicator& world, ParameterStore& store)>& work) {
  RunRanks(static_cast<int>(layout.mesh.size()), [&](Communicator& world) {
    const ProcessMesh mesh(world, layout.mesh, layout.sequence_parallel);
    FlatSharding sharding = ShardingOf({.zero = layout.zero}, mesh);
    sharding.bucket_elements = layout.bucket_elements;
    HostAllocator allocator;
    ParameterStore store(specs(layout), dtype, allocator, sharding);
    work(world, store);
  });
}

// The elements of a piece in its tensor.
std::vector<int64_t> ElementsOf(const TensorEntry& tensor, const TensorPiece& piece) {
  std::vector<int64_t> elements;
  for (int64_t i = piece.flat.begin; i < piece.flat.end; ++i) {
    elements.push_back(ElementOfBox(tensor.shape, piece.offset, piece.shape, i));
  }
  return elements;
}

// What a rank must read, element by element.
LoadCount NeededBy(const ParameterStore& store, const Manifest& manifest) {
  std::map<std::string, std::set<int64_t>> wanted;  // by tensor
  for (const Parameter& parameter : store.parameters()) {
    for (int64_t i = 0; i < parameter.shape.size(); ++i) {
      wanted["weights/" + parameter.spec.name].insert(WholeElement(parameter, i));
    }
  }
  VisitState(store, [&](Kind kind, const TensorView&, int64_t, size_t parameter, int64_t element) {
    const std::string& name = store.parameters()[parameter].spec.name;
    if (kind != Kind::kWeights) {
      wanted[(kind == Kind::kExpAvg ? "exp_avg/" : "exp_avg_sq/") + name].insert(element);
    }
  });
  LoadCount count;
  std::set<std::string> files;
  for (const TensorEntry& tensor : manifest.tensors) {
    for (const TensorPiece& piece : tensor.pieces) {
      const std::vector<int64_t> elements = ElementsOf(tensor, piece);
      const std::set<int64_t>& some = wanted[tensor.name];
      if (std::any_of(elements.begin(), elements.end(), [&](int64_t e) { return some.contains(e); })) {
        files.insert(piece.file);
        ++count.pieces;
        count.bytes += piece.size() * SizeOf(tensor.dtype);
      }
    }
  }
  count.files = static_cast<int64_t>(files.size());
  return count;
}

void SaveOn(const Layout& layout, const SpecsOf& specs, DType dtype, const std::string& folder) {
  OnLayout(layout, specs, dtype, [&](Communicator& world, ParameterStore& store) {
    FillState(store);
    CheckpointMeta meta = MetaOf(1);
    meta.mesh = layout.mesh;
    static_cast<void>(SaveCheckpoint(store, world, meta, {folder, 2, {}}));
  });
}

void LoadOn(const Layout& layout, const SpecsOf& specs, DType dtype, const Checkpoint& checkpoint) {
  OnLayout(layout, specs, dtype, [&](Communicator& /*world*/, ParameterStore& store) {
    const LoadCount count = LoadInto(store, checkpoint, LoadParts::kWeightsAndMoments, Stream{});
    ExpectState(store);
    const LoadCount needed = NeededBy(store, checkpoint.manifest);
    EXPECT_EQ(count.files, needed.files);
    EXPECT_EQ(count.pieces, needed.pieces);
    EXPECT_EQ(count.bytes, needed.bytes);
  });
}

void ExpectOneWriterAnElement(const Manifest& manifest) {
  for (const TensorEntry& tensor : manifest.tensors) {
    EXPECT_EQ(TilingFault(tensor), "") << tensor.name;
    std::vector<int> writers(static_cast<size_t>(tensor.size()), 0);
    for (const TensorPiece& piece : tensor.pieces) {
      for (const int64_t element : ElementsOf(tensor, piece)) {
        ++writers[static_cast<size_t>(element)];
      }
    }
    EXPECT_EQ(std::count(writers.begin(), writers.end(), 1), tensor.size()) << tensor.name;
  }
}

// Saved on each, loaded on each.
void RoundTrips(const std::vector<Layout>& layouts, const SpecsOf& specs, DType dtype) {
  for (const Layout& from : layouts) {
    const ScratchFolder scratch;
    SaveOn(from, specs, dtype, scratch.path());
    const Checkpoint checkpoint = OpenCheckpoint(scratch.path());
    ExpectOneWriterAnElement(checkpoint.manifest);
    for (const Layout& to : layouts) {
      SCOPED_TRACE("from " + from.ToString() + " to " + to.ToString());
      LoadOn(to, specs, dtype, checkpoint);
    }
  }
}

TEST(CheckpointLayouts, ThreeKeyValueHeads) {
  RoundTrips({{{1, 1, 1}},
              {{3, 1, 1}, 1, 300},
              {{1, 1, 3}, 0, INT64_MAX, true},
              {{2, 1, 3}, 1, 300},
              {{1, 1, 6}, 0, 500},
              {{1, 2, 3}, 1}},
             SpecsOfModel(Model(6, 3)),
             DType::kF32);
}

TEST(CheckpointLayouts, TwoKeyValueHeadsInLowPrecision) {
  RoundTrips({{{2, 1, 1}, 0, 300}, {{2, 1, 4}, 1, 200, true}, {{2, 2, 2}, 1, 1}, {{4, 2, 1}, 1}, {{1, 1, 4}}},
             SpecsOfModel(Model(4, 2)),
             DType::kBF16);
}

TEST(CheckpointLayouts, TensorsOfAnyRank) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    RoundTrips({{{1, 1, 1}},
                {{3, 1, 1}, 1, 20},
                {{1, 1, 2}},
                {{1, 1, 3}, 0, 30},
                {{2, 1, 2}, 1, 10},
                {{1, 2, 3}, 1, 1},
                {{1, 1, 6}}},
               SpecsOfAnyRank,
               dtype);
  }
}

// Three rows or columns over four ranks.
TEST(CheckpointLayouts, RanksThatHoldNothingOfATensor) {
  RoundTrips({{{1, 1, 4}}, {{2, 1, 4}, 1, 200}, {{1, 1, 4}, 0, 1, true}, {{1, 1, 1}}},
             SpecsOfModel(Model(4, 2, 3)),
             DType::kF32);
}

// VmHWM counts from here; false where the system does not allow it.
bool MarkPeakMemory() {
  std::ofstream mark("/proc/self/clear_refs");
  mark << 5 << std::flush;
  return static_cast<bool>(mark);
}

int64_t StatusBytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) {
      return std::stoll(line.substr(key.size() + 1)) * 1024;
    }
  }
  return -1;
}

TEST(CheckpointLayouts, ARankTakesMemoryForItsShareAndAChunk) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer keeps freed memory";
#endif
  const ParameterSpec spec = {.name = "matrix", .shape = {2048, 4096}, .tensor = Placement::Sharded(1)};  // 32 MiB
  const ScratchFolder scratch;
  {
    HostAllocator allocator;
    const ParameterStore store({spec}, DType::kF32, allocator);
    const auto self = MakeSelfCommunicator();
    static_cast<void>(SaveCheckpoint(store, *self, MetaOf(1), {scratch.path(), 1, {}}));
  }
  const Checkpoint checkpoint = OpenCheckpoint(scratch.path());
  HostAllocator allocator;
  ParameterStore store({spec}, DType::kF32, allocator, {.tensor_parts = 16, .tensor_rank = 5});
  if (!MarkPeakMemory()) {
    GTEST_SKIP() << "the peak of resident memory cannot be reset here";
  }
  const int64_t before = StatusBytes("VmRSS");
  LoadInto(store, checkpoint, LoadParts::kWeightsAndMoments, Stream{});
  const int64_t share = 4 * store.parameters().front().shape.size();
  const int64_t code = int64_t{4} << 20;  // of libraries, at its first use
  EXPECT_LT(StatusBytes("VmHWM") - before, share + PieceFile::kChunkBytes + code);
}

}  // namespace
}  // namespace ksa::testing
