// `select` of sweeps: who is chosen, and who runs when.
#include "trainer/evaluate/selection.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int kDone = 0;

// Two kinds, two learning rates, two seeds.
Sweep MakeSweep(const std::string& by, std::optional<uint64_t> seed) {
  Sweep sweep;
  sweep.select = SweepSelect{{"optimizer.lr"}, by, seed};
  sweep.mean_over = {"run.seed"};
  for (const char* kind : {"ksa", "full"}) {
    for (const char* lr : {"lr=1", "lr=2"}) {
      for (const uint64_t s : {1, 2}) {
        SweepCell cell;
        cell.label = std::string(kind) + "," + lr + ",seed=" + std::to_string(s);
        cell.family = kind;
        cell.choice = lr;
        cell.judged = !seed || s == *seed;
        sweep.cells.push_back(cell);
      }
    }
  }
  return sweep;
}

std::string Letters(const std::vector<CellRole>& roles) {
  std::string text;
  for (const CellRole role : roles) {
    text += "pcwkrn"[static_cast<int>(role)];
  }
  return text;
}

TEST(SelectCells, WithoutSelectEverythingRuns) {
  Sweep sweep = MakeSweep("validation_loss", {});
  sweep.select.reset();
  EXPECT_EQ(Letters(SelectCells(sweep, std::vector<CellScore>(8))), "pppppppp");
}

TEST(SelectCells, TheSmallestMeanLossOverTheSeeds) {
  const Sweep sweep = MakeSweep("validation_loss", {});
  std::vector<CellScore> scores(8);
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "cccccccc");
  // lr=1 has the best single seed, lr=2 the better mean.
  scores[0] = {kDone, 1.0};
  scores[1] = {kDone, 4.0};
  scores[2] = {kDone, 2.0};
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "cccccccc") << "one cell is open";
  scores[3] = {kDone, 2.5};
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "rrkkcccc") << "each kind chooses for itself";
  scores[3] = {85, {}};
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "cccccccc") << "a stopped cell goes on later";
}

TEST(SelectCells, TheLargestAccuracy) {
  const Sweep sweep = MakeSweep("task_accuracy/recall", {});
  std::vector<CellScore> scores = {{kDone, 0.5}, {kDone, 0.6}, {kDone, 0.4}, {kDone, 0.4}, {}, {}, {}, {}};
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "kkrrcccc");
  scores[2].value = scores[3].value = 0.55;
  scores[0].value = scores[1].value = 0.55;
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "kkrrcccc") << "of equals the first";
}

TEST(SelectCells, OneSeedChoosesAndTheOthersFollow) {
  const Sweep sweep = MakeSweep("validation_loss/books", 2);
  std::vector<CellScore> scores(8);
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "wcwcwcwc");
  scores[1] = {kDone, 3.0};
  scores[3] = {kDone, 2.0};
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "rrkkwcwc");
  scores[2] = {kDone, 9.0};  // what the other seed says changes nothing
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "rrkkwcwc");
  EXPECT_TRUE(MayRun(CellRole::kKept));
  EXPECT_FALSE(MayRun(CellRole::kWaiting));
  EXPECT_FALSE(MayRun(CellRole::kRejected));
}

TEST(SelectCells, WhatFailedOrDivergedIsNotChosen) {
  const Sweep sweep = MakeSweep("validation_loss", {});
  std::vector<CellScore> scores = {{kDone, 1.0}, {70, {}}, {kDone, 5.0}, {kDone, 6.0}, {}, {}, {}, {}};
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "rrkkcccc");
  scores[1] = {kDone, std::nan("")};
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "rrkkcccc");
  scores[1] = {kDone, {}};  // done, and the metric is not there
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "rrkkcccc");
  scores[2] = {137, {}};
  EXPECT_EQ(Letters(SelectCells(sweep, scores)), "nnnncccc");
  EXPECT_THROW(static_cast<void>(SelectCells(sweep, {})), Error);
}

// The last value in the run's folder, of the source or task that is named, else the mean over the sources.
TEST(ScoreOf, ReadsTheLastValue) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "selection_score";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "metrics.jsonl")
      << R"({"run_id":"r","attempt":1,"step":1,"validation_loss":{"a":9,"b":9},"task_accuracy":{"t":0.25}})"
      << "\n"
      << R"({"run_id":"r","attempt":1,"step":2,"validation_loss":{"a":1,"b":2},"task_accuracy":{}})"
      << "\n"
      << R"({"run_id":"r","attempt":1,"step":3,"validation_loss":{}})"
      << "\n";
  SweepCell cell;
  cell.config.run.dir = folder.string();
  const auto score = [&](const std::string& by, int code) { return ScoreOf(MakeSweep(by, {}), cell, code).value; };
  EXPECT_EQ(score("validation_loss", kDone), 1.5);
  EXPECT_EQ(score("validation_loss/b", kDone), 2.0);
  EXPECT_EQ(score("task_accuracy/t", kDone), 0.25);
  EXPECT_EQ(score("task_accuracy/u", kDone), std::nullopt);
  EXPECT_EQ(score("validation_loss", 85), std::nullopt) << "not done";
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace ksa
