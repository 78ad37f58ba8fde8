// Cells side by side, with shells in the place of trainings.
#include "trainer/sweep/cell_pool.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace ksa {
namespace {

namespace fs = std::filesystem;

class CellPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ("cell_pool_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }

  void TearDown() override { fs::remove_all(folder_); }

  // A cell that runs `script` in its run folder.
  void Add(const std::string& label, const std::string& script) {
    SweepCell cell;
    cell.label = label;
    cell.config.run.dir = (folder_ / label).string();
    fs::create_directories(cell.config.run.dir);
    sweep_.cells.push_back(cell);
    scripts_.push_back("cd '" + cell.config.run.dir + "'; " + script);
  }

  std::vector<int> Run(int jobs, std::vector<int> codes = {}) {
    codes.resize(sweep_.cells.size(), kCellNotRun);
    CellPoolOptions options = {.jobs = jobs};
    options.command = [this](size_t cell, int job) {
      jobs_[cell] = job;
      return ChildCommand{{"sh", "-c", scripts_[cell]}, {}, ""};
    };
    options.say = [this](const std::string& line) { said_ += line + "\n"; };
    options.apart = jobs > 1;
    return CellPool(sweep_, std::move(codes), std::move(options)).Run(StopSignal((folder_ / "STOP").string()));
  }

  [[nodiscard]] bool Ran(const std::string& label) const { return fs::exists(folder_ / label / "ran"); }

  static std::string Losing(double loss) {
    return fmt::format(
        "touch ran; echo '{{\"run_id\":\"r\",\"attempt\":1,\"step\":1,\"validation_loss\":{{\"a\":{}}}}}' "
        ">metrics.jsonl",
        loss);
  }

  fs::path folder_;
  Sweep sweep_;
  std::vector<std::string> scripts_;
  std::map<size_t, int> jobs_;
  std::string said_;
};

// Each waits for the other's mark: one after the other they would wait for ever.
TEST_F(CellPoolTest, RunsSideBySide) {
  const std::string meet =
      "touch here; i=0; until [ -e ../%s/here ] || [ $i -gt 1200 ]; do sleep 0.05; i=$((i+1)); done; "
      "[ -e ../%s/here ]";
  const auto wait_for = [&](std::string other) {
    std::string script = meet;
    for (size_t at; (at = script.find("%s")) != std::string::npos;) {
      script.replace(at, 2, other);
    }
    return script;
  };
  Add("a", wait_for("b"));
  Add("b", wait_for("a"));
  Add("c", "exit 0");
  EXPECT_EQ(Run(2), (std::vector<int>{0, 0, 0}));
  EXPECT_NE(jobs_[0], jobs_[1]);
  EXPECT_NE(said_.find("cell 1/3: a: started"), std::string::npos) << said_;
  EXPECT_NE(said_.find("cell 3/3: c: done after"), std::string::npos) << said_;
}

TEST_F(CellPoolTest, NeverMoreThanItsJobs) {
  for (const char* label : {"a", "b", "c", "d", "e"}) {
    Add(label, "mkdir ../slot1 2>/dev/null && s=1 || { mkdir ../slot2 && s=2; } || exit 9; sleep 0.1; rmdir ../slot$s");
  }
  EXPECT_EQ(Run(2), std::vector<int>(5, 0));
}

TEST_F(CellPoolTest, DoneCellsAreSkippedAndFailedOnesEndNothing) {
  Add("a", "touch ran; exit 0");
  Add("b", "exit 70");
  Add("c", "kill -9 $$");
  Add("d", "exit 0");
  EXPECT_EQ(Run(1, {0}), (std::vector<int>{0, 70, 137, 0}));
  EXPECT_FALSE(Ran("a"));
  EXPECT_NE(said_.find("cell 1/4: a: already done\n"), std::string::npos) << said_;
  EXPECT_EQ(Run(3), (std::vector<int>{0, 70, 137, 0}));
  EXPECT_NE(said_.find("failed (70) after"), std::string::npos) << said_;
}

constexpr const char* kUntilStopped =
    "touch ran; trap 'exit 85' USR1; i=0; while [ $i -lt 1200 ]; do sleep 0.05; i=$((i+1)); done";

// A stop of the whole sweep: all that run are asked and waited for, and nothing else starts.
TEST_F(CellPoolTest, AStopEndsAllInOrder) {
  Add("a", kUntilStopped);
  Add("b", kUntilStopped);
  Add("c", "touch ran");
  std::thread later([this] {
    while (!Ran("a") || !Ran("b")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the traps are set
    std::ofstream(folder_ / "STOP") << "";
  });
  EXPECT_EQ(Run(2), (std::vector<int>{86, 86, kCellNotRun}));
  later.join();
  EXPECT_FALSE(Ran("c"));
}

// A cell that was stopped by itself: the others save what they have, and the sweep ends with it.
TEST_F(CellPoolTest, AStoppedCellStopsTheOthers) {
  Add("a", kUntilStopped);
  Add("b", "until [ -e ../a/ran ]; do sleep 0.05; done; sleep 0.3; exit 86");
  Add("c", "touch ran");
  EXPECT_EQ(Run(2), (std::vector<int>{85, 86, kCellNotRun}));
  EXPECT_FALSE(Ran("c"));
}

// One seed chooses the rate, and the other seed runs for that one alone.
TEST_F(CellPoolTest, OnlyTheChosenValueRunsOn) {
  sweep_.select = SweepSelect{{"optimizer.lr"}, "validation_loss", 1};
  const double losses[] = {3.0, 9.0, 2.0, 9.0, 4.0, 9.0};
  for (int i = 0; i < 6; ++i) {
    Add(fmt::format("lr={},seed={}", i / 2, 1 + i % 2), Losing(losses[i]));
    sweep_.cells.back().family = "all";
    sweep_.cells.back().choice = fmt::format("lr={}", i / 2);
    sweep_.cells.back().judged = i % 2 == 0;
  }
  for (const int jobs : {1, 2}) {
    for (const SweepCell& cell : sweep_.cells) {
      fs::remove(folder_ / cell.label / "ran");
      fs::remove(folder_ / cell.label / "metrics.jsonl");
    }
    EXPECT_EQ(Run(jobs), (std::vector<int>{0, kCellNotRun, 0, 0, 0, kCellNotRun}));
    EXPECT_TRUE(Ran("lr=1,seed=2"));
    EXPECT_FALSE(Ran("lr=0,seed=2"));
  }
  // Again, with all of it done: the choice is the same, and nothing runs.
  jobs_.clear();
  EXPECT_EQ(Run(1, {0, kCellNotRun, 0, 0, 0, kCellNotRun}), (std::vector<int>{0, kCellNotRun, 0, 0, 0, kCellNotRun}));
  EXPECT_TRUE(jobs_.empty());
}

TEST_F(CellPoolTest, ProgressLines) {
  Add("first", "");
  Add("second", "");
  for (SweepCell& cell : sweep_.cells) {
    cell.config.training.max_steps = 300;
  }
  sweep_.cells[1].config.training.hard_stop = 200;
  std::ofstream(folder_ / "first" / "metrics.jsonl")
      << R"({"run_id":"r","attempt":1,"step":120,"tokens":1,"loss":2.5,"validation_loss":{},"tokens_per_second":1500,)"
      << R"("memory":1})"
      << "\n{\"run_id\":\"r\",\"att";
  const std::vector<RunningCell> running = {{0, 0, "", 61}, {1, 1, "", 2}};
  const SweepCounts counts = {.done = 3, .failed = 1, .left = 4, .rejected = 2, .seconds_left = 725};
  std::vector<std::string> lines = ProgressLines(sweep_, running, counts, 100);
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_NE(lines[2].find("120/300"), std::string::npos) << lines[2];
  EXPECT_NE(lines[2].find("2.5000"), std::string::npos) << lines[2];
  EXPECT_NE(lines[2].find("1.5K"), std::string::npos) << lines[2];
  EXPECT_NE(lines[3].find("0/200"), std::string::npos) << lines[3];
  EXPECT_EQ(lines[4], "3 done, 1 failed, 4 to run, 2 not chosen, about 12m05s");
  for (const std::string& line : ProgressLines(sweep_, running, counts, 20)) {
    EXPECT_LE(line.size(), 20U);
  }
  lines = ProgressLines(sweep_, running, counts, 100, 1);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[3].substr(0, 13), "1 more run; 3");
}

}  // namespace
}  // namespace ksa
