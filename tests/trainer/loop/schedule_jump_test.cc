// Going on behind a decay: when it is warned of, and which checkpoint the warning names.
#include "trainer/loop/schedule_jump.h"

#include <string>
#include <vector>

#include "tests/trainer/checkpoint/support.h"
#include "tests/trainer/config/support.h"

namespace ksa::testing {
namespace {

Config ConfigOf(std::vector<std::string> sets) {
  sets.insert(sets.begin(), "schedule.decay_steps=20");  // kBase: wsd of 100 updates
  return ParseConfig(kBase, "t.yaml", sets).config;
}

class ScheduleJumpTest : public ::testing::Test {
 protected:
  // Saves a checkpoint of the schedule of `sets`, beside those of the steps before.
  [[nodiscard]] Checkpoint Save(int64_t step, const std::vector<std::string>& sets = {}) const {
    Checkpoint checkpoint = OpenCheckpoint(SaveSmall(scratch_ / "checkpoints", step));
    checkpoint.manifest.meta.configuration = RenderConfig(ConfigOf(sets));
    return checkpoint;
  }

  [[nodiscard]] std::string Path(int64_t step) const { return scratch_ / "checkpoints/" + CheckpointFolderName(step); }

  ScratchFolder scratch_;
};

bool Says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(ScheduleJumpTest, ALongerRunBehindTheDecayIsWarnedOf) {
  for (const int64_t step : {40, 80, 90}) {
    static_cast<void>(Save(step));
  }
  const std::string warning = ScheduleJump(ConfigOf({"training.max_steps=200"}), Save(100));
  EXPECT_TRUE(Says(warning, "jumps from 0.0001 after update 100 to 0.001")) << warning;
  EXPECT_TRUE(Says(warning, "decaying since update 80, and is 200 updates long instead of 100")) << warning;
  EXPECT_TRUE(Says(warning, "checkpoint.resume: " + Path(80) + " extends")) << warning;
}

TEST_F(ScheduleJumpTest, WithoutAnOlderCheckpointItSaysHowToKeepSome) {
  static_cast<void>(Save(90));
  const std::string warning = ScheduleJump(ConfigOf({"training.max_steps=200"}), Save(100));
  EXPECT_TRUE(Says(warning, "checkpoint.keep_every keeps some")) << warning;
}

TEST_F(ScheduleJumpTest, InTheMiddleOfTheDecayAndOfACosine) {
  EXPECT_TRUE(Says(ScheduleJump(ConfigOf({"training.max_steps=200"}), Save(90)), "after update 90 to 0.001"));
  const std::vector<std::string> cosine = {"schedule.kind=cosine"};
  EXPECT_TRUE(Says(ScheduleJump(ConfigOf({"schedule.kind=cosine", "training.max_steps=200"}), Save(90, cosine)),
                   "200 updates long instead of 100"));
  EXPECT_TRUE(Says(ScheduleJump(ConfigOf({"schedule.decay_steps=5"}), Save(90)), "is another one now"));
}

TEST_F(ScheduleJumpTest, WhatDoesNotJumpIsNotWarnedOf) {
  EXPECT_EQ(ScheduleJump(ConfigOf({}), Save(90)), "") << "the same schedule";
  EXPECT_EQ(ScheduleJump(ConfigOf({}), Save(100)), "") << "a run that is complete";
  EXPECT_EQ(ScheduleJump(ConfigOf({"training.max_steps=200"}), Save(80)), "") << "before the decay";
  EXPECT_EQ(ScheduleJump(ConfigOf({"training.max_steps=200"}), Save(3, {"schedule.warmup_steps=10"})), "");
  EXPECT_EQ(ScheduleJump(ConfigOf({"training.max_steps=200", "optimizer.lr=1e-4"}), Save(100)), "")
      << "a rate that was lowered with it";
  EXPECT_EQ(ScheduleJump(ConfigOf({"training.max_steps=200", "schedule.kind=constant"}),
                         Save(100, {"schedule.kind=constant"})),
            "");
}

}  // namespace
}  // namespace ksa::testing
