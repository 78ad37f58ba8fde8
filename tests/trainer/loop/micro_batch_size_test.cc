// training.micro_batch_size: auto: the largest divisor of a data rank's share that fits on every rank, and what a run
// took once on the same layout.
#include "trainer/loop/micro_batch_size.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "tests/trainer/config/support.h"
#include "trainer/config/load.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/step/training_state.h"

namespace ksa::testing {
namespace {

class MicroBatchSize : public ::testing::Test {
 protected:
  [[nodiscard]] Config ConfigOf(std::vector<std::string> sets, int ranks) const {
    sets.insert(sets.begin(),
                {"run.dir=" + (scratch_ / "run"),
                 "run.device=cpu",
                 "training.micro_batch_size=auto",
                 "training.global_batch_size=12"});
    Config config = ParseConfig(kBase, "t.yaml", sets).config;
    ResolveDevice(config, false);
    CheckAgainstRanks(config, ranks);
    return config;
  }

  // Of each rank; `free_bytes` too.
  [[nodiscard]] std::vector<int32_t> Resolve(const std::vector<std::string>& sets,
                                             const std::vector<int64_t>& free_bytes) {
    const auto ranks = static_cast<int>(free_bytes.size());
    std::vector<int32_t> sizes(free_bytes.size());
    notes_.resize(free_bytes.size());
    RunRanks(ranks, [&](Communicator& world) {
      Config config = ConfigOf(sets, ranks);
      const auto rank = static_cast<size_t>(world.rank());
      notes_[rank] = ResolveMicroBatch(config, world, free_bytes[rank]);
      sizes[rank] = config.training.micro_batch_size.value();
    });
    return sizes;
  }

  [[nodiscard]] int64_t Planned(int32_t size, int ranks, int rank = 0) const {
    Config config = ConfigOf({}, ranks);
    config.training.micro_batch_size = size;
    return PlanMemory(config, ranks, rank).Total();
  }

  // As a start commits it.
  void Store(const Config& config) const {
    std::filesystem::create_directories(scratch_ / "run");
    Spill(scratch_ / "run/config.resolved.yaml", RenderConfig(config));
  }

  ScratchFolder scratch_;
  std::vector<std::string> notes_;
};

constexpr int64_t kPlenty = int64_t{1} << 40;

TEST_F(MicroBatchSize, IsTheLargestDivisorThatFits) {
  EXPECT_EQ(Resolve({}, {kPlenty}), std::vector<int32_t>{12});
  for (const auto& [fits, next] :
       {std::pair{12, 6}, std::pair{6, 4}, std::pair{4, 3}, std::pair{3, 2}, std::pair{2, 1}}) {
    const int64_t bytes = Planned(fits, 1);
    EXPECT_EQ(Resolve({}, {bytes}), std::vector<int32_t>{fits});
    EXPECT_NE(notes_[0].find(" takes " + std::to_string(fits) + " of the 12 samples"), std::string::npos) << notes_[0];
    EXPECT_EQ(Resolve({}, {bytes - 1}), std::vector<int32_t>{next});
  }
  EXPECT_EQ(Resolve({}, {0}), std::vector<int32_t>{1}) << "nothing fits";
}

TEST_F(MicroBatchSize, DividesTheShareOfADataRank) {
  EXPECT_EQ(Resolve({}, {kPlenty, kPlenty}), (std::vector<int32_t>{6, 6}));
  EXPECT_EQ(Resolve({}, {kPlenty, kPlenty, kPlenty}), (std::vector<int32_t>{4, 4, 4}));
  EXPECT_EQ(Resolve({"parallel.context=2"}, {kPlenty, kPlenty}), (std::vector<int32_t>{12, 12}));
  EXPECT_EQ(Resolve({"parallel.tensor=2"}, {kPlenty, kPlenty, kPlenty, kPlenty}), (std::vector<int32_t>{6, 6, 6, 6}));
}

TEST_F(MicroBatchSize, TheRankWithTheLeastMemoryDecides) {
  EXPECT_EQ(Resolve({}, {kPlenty, Planned(3, 2, 1)}), (std::vector<int32_t>{3, 3}));
  EXPECT_EQ(Resolve({}, {Planned(2, 2, 0), kPlenty}), (std::vector<int32_t>{2, 2}));
}

TEST_F(MicroBatchSize, ANumberStays) {
  Config config = ConfigOf({"training.micro_batch_size=4"}, 1);
  EXPECT_EQ(ResolveMicroBatch(config, *MakeSelfCommunicator(), kPlenty), "");
  EXPECT_EQ(config.training.micro_batch_size, 4);
}

TEST_F(MicroBatchSize, StaysWhatItWasOnTheSameLayoutAlone) {
  Store(ConfigOf({"training.micro_batch_size=3"}, 1));
  EXPECT_EQ(Resolve({}, {kPlenty}), std::vector<int32_t>{3});
  EXPECT_NE(notes_[0].find("stays at 3"), std::string::npos) << notes_[0];
  EXPECT_EQ(Resolve({}, {0}), std::vector<int32_t>{3}) << "what was taken once is not judged again";
  EXPECT_EQ(Resolve({}, {kPlenty, kPlenty}), (std::vector<int32_t>{6, 6})) << "another number of ranks";
  EXPECT_EQ(Resolve({"training.recompute=block"}, {kPlenty}), std::vector<int32_t>{12});
  Store(ConfigOf({"training.micro_batch_size=2"}, 2));
  EXPECT_EQ(Resolve({}, {kPlenty, kPlenty}), (std::vector<int32_t>{2, 2}));
  EXPECT_EQ(Resolve({}, {kPlenty}), std::vector<int32_t>{12});
  Spill(scratch_ / "run/config.resolved.yaml", "run: [");
  EXPECT_EQ(Resolve({}, {kPlenty}), std::vector<int32_t>{12}) << "a file that cannot be read";
}

// A plan on the CPU, beside what updates really take there: it leaves out scratch that kernels take themselves.
TEST_F(MicroBatchSize, ThePlanOfTheCpuIsWhatAnUpdateTakes) {
  for (const std::vector<std::string>& sets : std::vector<std::vector<std::string>>{
           {"training.micro_batch_size=2"},
           {"training.micro_batch_size=12"},
           {"training.micro_batch_size=6", "training.precision=fp64"},
           {"training.micro_batch_size=6", "data.document_mask=true"},
           {"training.micro_batch_size=12", "training.recompute=block"},
           {"training.micro_batch_size=12", "model.attention.ksa.anneal={start_step: 0, end_step: 4}"}}) {
    SCOPED_TRACE(sets.back());
    std::vector<std::string> wide = {"model.hidden_size=64", "model.intermediate_size=128"};
    wide.insert(wide.end(), sets.begin(), sets.end());
    const Config config = ConfigOf(wide, 1);
    const MemoryPlan plan = PlanMemory(config);
    const auto self = MakeSelfCommunicator();
    Runtime runtime(*self, {.threads = 1});
    TrainingState state(config.model, config.training, config.optimizer, {}, runtime);
    state.store.Initialize(1, runtime.stream());
    Batch batch;
    batch.samples = config.training.global_batch_size;
    batch.sequence_length = config.training.sequence_length;
    batch.inputs.resize(static_cast<size_t>(batch.samples) * static_cast<size_t>(batch.sequence_length));
    batch.targets.resize(batch.inputs.size());
    if (config.data.document_mask) {  // one document
      batch.chunks = batch.sequence_length / config.model.ChunkSize();
      batch.document_first_chunk.resize(static_cast<size_t>(batch.samples) * static_cast<size_t>(batch.chunks));
      batch.chunk_tokens.resize(batch.document_first_chunk.size(), config.model.ChunkSize());
      batch.targets.front() = Batch::kNoTarget;  // as at the end of a document: rows are gathered for the loss
    }
    batch.target_count = static_cast<int64_t>(batch.targets.size());
    static_cast<void>(state.updater.Run(batch, 1, 1e-3));
    const auto taken = static_cast<double>(runtime.allocator().use().peak);
    const auto planned = static_cast<double>(plan.ArenaBytes());
    EXPECT_GT(taken, 0.9 * planned);
    EXPECT_LT(taken, 1.4 * planned);
  }
}

}  // namespace
}  // namespace ksa::testing
