// Checkpoints that are written beside training: the same bytes as those that training waits for, whatever happens to
// the state meanwhile; the same errors; and nothing half-made where it is interrupted.
#include "trainer/checkpoint/async_saver.h"

#include <atomic>
#include <filesystem>
#include <limits>
#include <thread>

#include "kernels/core/host_allocator.h"
#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

// Every tensor's pieces with their hashes: files themselves also hold the second in which they were made.
std::string Contents(const std::string& path) {
  return RenderTensors(OpenCheckpoint(path).manifest.tensors);
}

// A rank's state of the small model, sharded or not.
class Rank {
 public:
  Rank(Communicator& world, bool shard)
      : world_(world), store_(SmallSpecs(), DType::kF32, allocator_, {world.size(), world.rank(), shard}) {
    FillState(store_);
  }

  [[nodiscard]] ParameterStore& store() { return store_; }

  // What the next updates do to the state.
  void Spoil() {
    VisitState(store_, [](Kind, const TensorView& buffer, int64_t index, size_t, int64_t) {
      SetAt(buffer, index, std::numeric_limits<double>::quiet_NaN());
    });
  }

  // As the loop of updates does, until the save ends; the stages that it took.
  int Drive(AsyncSaver& saver) {
    int stages = 0;
    while (saver.pending()) {
      if (world_.Sum(int64_t{saver.StageIsOver() ? 1 : 0}) == world_.size()) {
        ++stages;
        static_cast<void>(saver.Advance());
      } else {
        std::this_thread::yield();
      }
    }
    return stages;
  }

 private:
  Communicator& world_;
  HostAllocator allocator_;
  ParameterStore store_;
};

TEST(AsyncSaver, WritesWhatASaveThatWaitsWrites) {
  for (const int ranks : {1, 2, 3}) {
    for (const bool shard : {false, true}) {
      const ScratchFolder scratch;
      RunRanks(ranks, [&](Communicator& world) {
        Rank rank(world, shard);
        const std::string expected = SaveCheckpoint(rank.store(), world, MetaOf(7), {.folder = scratch / "sync"});
        AsyncSaver saver(rank.store(), world, Stream{});
        EXPECT_FALSE(saver.pending());
        saver.Begin(MetaOf(7), {.folder = scratch / "async"});
        rank.Spoil();
        EXPECT_EQ(rank.Drive(saver), 3);
        const std::string path = scratch / "async/step_00000007";
        EXPECT_EQ(Contents(path), Contents(expected)) << ranks << " ranks";
        EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(path), world).empty());
        EXPECT_EQ(Slurp(scratch / "async/latest"), "step_00000007\n");
      });
    }
  }
}

TEST(AsyncSaver, OneAfterTheOtherPrunesAsAlways) {
  const ScratchFolder scratch;
  RunRanks(2, [&](Communicator& world) {
    Rank rank(world, true);
    CheckedCheckpoints checked;
    AsyncSaver saver(rank.store(), world, Stream{});
    std::vector<std::string> order;
    for (int64_t step = 1; step <= 5; ++step) {
      saver.Begin(MetaOf(step),
                  {.folder = scratch.path(),
                   .keep_last = 2,
                   .before_commit = [&] { order.push_back("rows of " + std::to_string(step)); },
                   .checked = &checked});
      EXPECT_EQ(saver.Finish(), scratch / CheckpointFolderName(step));
      EXPECT_FALSE(saver.pending());
    }
    EXPECT_EQ(order.size(), world.rank() == 0 ? 5U : 0U);
  });
  EXPECT_EQ(ListCheckpoints(scratch.path()),
            (std::vector<std::string>{scratch / "step_00000004", scratch / "step_00000005"}));
}

TEST(AsyncSaver, FailsOnAllRanksAndWorksAgain) {
  for (int failing = 0; failing < 3; ++failing) {
    const ScratchFolder scratch;
    const std::string good = SaveSmall(scratch.path(), 1);
    std::atomic<bool> broken = true;
    RunRanks(3, [&](Communicator& world) {
      Rank rank(world, true);
      AsyncSaver saver(rank.store(), world, Stream{});
      SaveOptions options = {.folder = scratch.path()};
      options.on_stage = [&](SaveStage stage) {
        if (broken && stage == SaveStage::kTensorsWritten && world.rank() == failing) {
          Fail(ExitCode::kIo, "the disk is full");
        }
      };
      saver.Begin(MetaOf(2), options);
      const Error error = ErrorOf([&] { static_cast<void>(saver.Finish()); });
      EXPECT_EQ(error.code(), ExitCode::kIo);
      EXPECT_NE(std::string(error.what()).find("the disk is full"), std::string::npos) << error.what();
      EXPECT_FALSE(saver.pending());
      world.Barrier();
      EXPECT_EQ(ListCheckpoints(scratch.path()), (std::vector<std::string>{good}));
      EXPECT_FALSE(fs::exists(scratch / "step_00000002.tmp-00112233445566aa"));
      world.Barrier();
      broken = false;
      world.Barrier();
      saver.Begin(MetaOf(3), options);
      EXPECT_EQ(saver.Finish(), scratch / "step_00000003");
    });
  }
}

TEST(AsyncSaver, WhatMustBeOnDiskFirstFailsTheSave) {
  const ScratchFolder scratch;
  RunRanks(2, [&](Communicator& world) {
    Rank rank(world, false);
    AsyncSaver saver(rank.store(), world, Stream{});
    const std::thread::id own = std::this_thread::get_id();
    const auto fail = [&] {
      EXPECT_EQ(std::this_thread::get_id(), own) << "rows of metrics belong to the thread that trains";
      Fail(ExitCode::kIo, "rows wait");
    };
    saver.Begin(MetaOf(1), {.folder = scratch / "checkpoints", .before_commit = fail});
    EXPECT_EQ(ErrorOf([&] { static_cast<void>(saver.Finish()); }).code(), ExitCode::kIo);
  });
  EXPECT_TRUE(fs::is_empty(scratch / "checkpoints"));
}

TEST(AsyncSaver, NeverSavesWhatIsNotFinite) {
  const ScratchFolder scratch;
  RunRanks(2, [&](Communicator& world) {
    Rank rank(world, true);
    if (world.rank() == 1) {
      rank.Spoil();
    }
    AsyncSaver saver(rank.store(), world, Stream{});
    saver.Begin(MetaOf(1), {.folder = scratch / "checkpoints"});
    EXPECT_EQ(ErrorOf([&] { static_cast<void>(saver.Finish()); }).code(), ExitCode::kDiverged);
  });
  EXPECT_TRUE(fs::is_empty(scratch / "checkpoints"));
}

TEST(AsyncSaver, WarningsComeFromTheThreadThatTrains) {
  const ScratchFolder scratch;
  const auto self = MakeSelfCommunicator();
  Rank rank(*self, false);
  std::vector<std::string> warnings;
  const std::thread::id own = std::this_thread::get_id();
  AsyncSaver saver(rank.store(), *self, Stream{});
  saver.Begin(
      MetaOf(1),
      {.folder = scratch.path(), .tokenizer_file = scratch / "tokenizer.json", .warn = [&](const std::string& text) {
         EXPECT_EQ(std::this_thread::get_id(), own);
         warnings.push_back(text);
       }});
  static_cast<void>(saver.Finish());
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("tokenizer.json"), std::string::npos);
}

// The run ends by an error at some moment of the save: what was not committed is gone, older ones stand.
TEST(AsyncSaver, GivenUpItLeavesNothing) {
  for (int stages = 0; stages < 3; ++stages) {
    const ScratchFolder scratch;
    const std::string good = SaveSmall(scratch.path(), 1);
    RunRanks(2, [&](Communicator& world) {
      Rank rank(world, true);
      AsyncSaver saver(rank.store(), world, Stream{});
      saver.Begin(MetaOf(2), {.folder = scratch.path()});
      for (int i = 0; i < stages; ++i) {
        static_cast<void>(saver.Advance());
      }
      while (!saver.StageIsOver()) {
        std::this_thread::yield();
      }
      world.Barrier();  // else one may remove what another is writing, and the next save removes the rest
    });
    const bool committed = stages == 2;  // the thread was at it, and is waited for
    EXPECT_EQ(ListCheckpoints(scratch.path()).size(), committed ? 2U : 1U) << stages;
    EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(scratch.path())).empty());
    for (const auto& entry : fs::directory_iterator(scratch.path())) {
      EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos) << entry.path();
    }
  }
}

// As for saves that wait: a kill at any moment leaves a good checkpoint, and the next save cleans up.
TEST(AsyncSaver, KilledAtAnyStageLeavesAGoodCheckpoint) {
  for (const SaveStage killed : {SaveStage::kFolderMade,
                                 SaveStage::kTensorsWritten,
                                 SaveStage::kManifestWritten,
                                 SaveStage::kRenamed,
                                 SaveStage::kLatestReplaced,
                                 SaveStage::kPruned}) {
    const ScratchFolder scratch;
    const std::string folder = scratch / "checkpoints";
    SaveSmall(folder, 1, 2);
    SaveSmall(folder, 2, 2);
    const auto self = MakeSelfCommunicator();
    Rank rank(*self, false);
    AsyncSaver saver(rank.store(), *self, Stream{});
    saver.Begin(MetaOf(3), {.folder = folder, .keep_last = 2, .on_stage = [&](SaveStage stage) {
                              if (stage == killed) {
                                fs::copy(folder, scratch / "crashed", fs::copy_options::recursive);
                              }
                            }});
    static_cast<void>(saver.Finish());
    const FoundCheckpoint found = FindNewestCheckpoint(scratch / "crashed", *self);
    ASSERT_TRUE(found.found);
    EXPECT_EQ(found.checkpoint.manifest.meta.step, killed >= SaveStage::kRenamed ? 3 : 2);
    EXPECT_TRUE(found.refused.empty());
  }
}

}  // namespace
}  // namespace ksa::testing
