// What goes into a checkpoint besides tensors, what runs before it counts, and what is never saved.
#include <sys/stat.h>

#include <filesystem>
#include <limits>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

class SaveTest : public ::testing::Test {
 protected:
  SaveTest() {
    options_.folder = scratch_ / "checkpoints";
    options_.warn = [this](const std::string& text) { warnings_.push_back(text); };
  }

  ScratchFolder scratch_;
  SaveOptions options_;
  std::vector<std::string> warnings_;
};

TEST_F(SaveTest, CopiesTheTokenizerAndNamesItsHash) {
  options_.tokenizer_file = scratch_ / "tokenizer.model";
  const std::string contents = std::string("pieces\0and more", 15);
  Spill(options_.tokenizer_file, contents);
  const Checkpoint checkpoint = OpenCheckpoint(SaveSmallWith(options_, 1));
  fs::remove(options_.tokenizer_file);  // the checkpoint works alone
  ASSERT_TRUE(checkpoint.manifest.meta.tokenizer.has_value());
  EXPECT_EQ(checkpoint.manifest.meta.tokenizer->file, "tokenizer.model");
  const std::string copy = checkpoint.path + "/tokenizer.model";
  EXPECT_EQ(TokenizerOf(checkpoint), std::optional<std::string>(copy));
  EXPECT_EQ(Slurp(copy), contents);
  EXPECT_TRUE(VerifyCheckpoint(checkpoint).empty());

  // Every change of it is damage of the checkpoint, for every rank.
  const auto expect_refused = [&] {
    EXPECT_EQ(ErrorOf([&] { static_cast<void>(TokenizerOf(checkpoint)); }).code(), ExitCode::kBadData);
    RunRanks(2, [&](Communicator& world) {
      const std::vector<Fault> faults = VerifyCheckpoint(checkpoint, world);
      ASSERT_EQ(faults.size(), 1U);
      EXPECT_NE(faults[0].text.find("tokenizer.model"), std::string::npos) << faults[0].text;
      EXPECT_EQ(faults[0].code, ExitCode::kBadData);
    });
  };
  Spill(copy, contents + "x");
  expect_refused();
  fs::remove(copy);
  expect_refused();
  ASSERT_EQ(mkfifo(copy.c_str(), 0600), 0);
  expect_refused();
}

TEST_F(SaveTest, ATokenizerThatWentAwayIsAWarning) {
  options_.tokenizer_file = scratch_ / "tokenizer.json";
  const Checkpoint checkpoint = OpenCheckpoint(SaveSmallWith(options_, 1));
  EXPECT_FALSE(checkpoint.manifest.meta.tokenizer.has_value());
  EXPECT_FALSE(TokenizerOf(checkpoint).has_value());
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_NE(warnings_[0].find("tokenizer.json"), std::string::npos);
}

TEST_F(SaveTest, RunsWhatMustBeOnDiskFirstBeforeTheManifest) {
  std::vector<std::string> seen;
  options_.before_commit = [&] {
    const std::string temporary = options_.folder + "/step_00000001.tmp-00112233445566aa";
    EXPECT_TRUE(fs::exists(temporary + "/rank_00000_of_00001.h5"));
    EXPECT_FALSE(fs::exists(temporary + "/manifest.json"));
    seen.emplace_back("before");
  };
  options_.on_stage = [&](SaveStage stage) {
    if (stage == SaveStage::kTensorsWritten || stage == SaveStage::kManifestWritten) {
      seen.emplace_back(stage == SaveStage::kTensorsWritten ? "tensors" : "manifest");
    }
  };
  SaveSmallWith(options_, 1);
  EXPECT_EQ(seen, (std::vector<std::string>{"tensors", "before", "manifest"}));
}

TEST_F(SaveTest, FailsOnEveryRankWhenThatFails) {
  options_.before_commit = [] { Fail(ExitCode::kIo, "metrics.jsonl: No space left on device"); };
  const auto errors = RunRanksToEnd(3, [&](Communicator& world) {
    HostAllocator allocator;
    ParameterStore store(SmallSpecs(), DType::kF32, allocator, {3, world.rank(), true});
    SaveCheckpoint(store, world, MetaOf(2), options_);
  });
  for (const std::exception_ptr& error : errors) {
    ASSERT_TRUE(error);
    const Error caught = ErrorOf([&] { std::rethrow_exception(error); });
    EXPECT_EQ(caught.code(), ExitCode::kIo);
    EXPECT_STREQ(caught.what(), "metrics.jsonl: No space left on device");
  }
  EXPECT_TRUE(fs::is_empty(options_.folder));
}

// fp32 and fp64, weights and moments, at any place, on one rank of several.
TEST_F(SaveTest, NeverSavesWhatIsNotFinite) {
  const std::string good = SaveSmall(options_.folder, 1);
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
      for (const Kind spoilt : {Kind::kWeights, Kind::kExpAvgSq}) {
        const auto errors = RunRanksToEnd(2, [&](Communicator& world) {
          HostAllocator allocator;
          ParameterStore store(SmallSpecs(), dtype, allocator, {2, world.rank(), true});
          FillState(store);
          VisitState(store, [&](Kind kind, const TensorView& buffer, int64_t index, size_t parameter, int64_t element) {
            if (kind == spoilt && parameter == 1 && element == 64) {  // the last of 13 x 5
              SetAt(buffer, index, bad);
            }
          });
          SaveCheckpoint(store, world, MetaOf(2), options_);
        });
        for (const std::exception_ptr& error : errors) {
          ASSERT_TRUE(error);
          const Error caught = ErrorOf([&] { std::rethrow_exception(error); });
          EXPECT_EQ(caught.code(), ExitCode::kDiverged);
          const char* name = spoilt == Kind::kWeights ? "weights/layers.0.q_proj" : "exp_avg_sq/layers.0.q_proj";
          EXPECT_NE(std::string(caught.what()).find(name), std::string::npos) << caught.what();
        }
        EXPECT_EQ(NamesIn(options_.folder), (std::vector<std::string>{"latest", "step_00000001"}));
      }
    }
  }
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(good)).empty());
}

TEST_F(SaveTest, TheLargestFiniteNumbersAreSaved) {
  HostAllocator allocator;
  ParameterStore store(SmallSpecs(), DType::kF32, allocator);
  FillState(store);
  VisitState(store, [&](Kind, const TensorView& buffer, int64_t index, size_t, int64_t element) {
    SetAt(
        buffer, index, element % 2 == 0 ? std::numeric_limits<float>::max() : std::numeric_limits<float>::denorm_min());
  });
  const auto self = MakeSelfCommunicator();
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(SaveCheckpoint(store, *self, MetaOf(1), options_))).empty());
}

// The checkpoint is whole before `latest` is written: that it cannot be is no failure.
TEST_F(SaveTest, LatestThatCannotBeWrittenIsAWarning) {
  fs::create_directories(options_.folder + "/latest/in the way");
  const std::string path = SaveSmallWith(options_, 1);
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(path)).empty());
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_NE(warnings_[0].find("latest"), std::string::npos) << warnings_[0];
}

}  // namespace
}  // namespace ksa::testing
