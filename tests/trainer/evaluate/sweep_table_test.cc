// The table of a sweep, from run folders made by hand.
#include "trainer/evaluate/sweep_table.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "trainer/config/load.h"
#include "trainer/evaluate/sweep_means.h"

namespace ksa {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBase = R"(
run: {name: base}
model:
  vocab_size: 50
  hidden_size: 8
  intermediate_size: 12
  num_hidden_layers: 2
  num_attention_heads: 2
  attention: {pattern: [ksa], ksa: {chunk_size: 4, window_chunks: 1}}
data: {train: [{path: nowhere}]}
training: {sequence_length: 16, global_batch_size: 1, max_steps: 30}
optimizer: {lr: 0.001}
)";

class SweepTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ("sweep_table_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    sweep_.name = "test";
    sweep_.dir = folder_.string();
    sweep_.kv_length = 100;
    AddCell("k=4", {});
    AddCell("full", {"model.attention.pattern=[full]"});
  }

  void TearDown() override { fs::remove_all(folder_); }

  void AddCell(const std::string& label, std::vector<std::string> sets) {
    sets.push_back("run.dir=" + (folder_ / label).string());
    sweep_.cells.push_back({label, sets, ParseConfig(kBase, "base.yaml", sets).config, "", label, ""});
    fs::create_directories(folder_ / label);
  }

  void Metrics(const std::string& label, const std::string& text) {
    std::ofstream(folder_ / label / "metrics.jsonl") << text;
  }

  static std::string Line(int attempt, int step, double loss, double speed, const std::string& validation) {
    std::ostringstream line;
    line << R"({"run_id":"r","attempt":)" << attempt << R"(,"step":)" << step << R"(,"tokens":)" << 16 * step
         << R"(,"loss":)" << loss << R"(,"grad_norm":1.0,"lr":0.001,"validation_loss":{)" << validation
         << R"(},"tokens_per_second":)" << speed
         << R"(,"mfu":null,"memory":1000,"data_wait_ms":0.1,"comm_wait_ms":0.0,"seconds":1.0})"
         << "\n";
    return line.str();
  }

  [[nodiscard]] nlohmann::json Rows(const std::vector<int>& codes) const {
    return nlohmann::json::parse(SummarizeSweep(sweep_, codes).Json());
  }

  fs::path folder_;
  Sweep sweep_;
};

TEST_F(SweepTableTest, LossesSpeedsAndCosts) {
  // The first attempt of update 30 was lost and done again; one line is torn; validation is not done every update.
  Metrics("k=4",
          Line(1, 10, 5.0, 100, R"("text":4.5)") + Line(1, 20, 4.0, 300, "") + Line(1, 30, 3.0, 900, R"("text":9.5)") +
              "{\"run_id\":\"r\",\"att\n" + Line(2, 30, 3.5, 200, R"("text":3.25)"));
  Metrics("full", Line(1, 10, 5.0, 80, "") + Line(1, 20, 3.0, 100, R"("text":3.0)") + Line(1, 30, 3.25, 400, ""));
  const nlohmann::json rows = Rows({0, 0});
  ASSERT_EQ(rows.size(), 2);
  EXPECT_EQ(rows[0]["cell"], "k=4");
  EXPECT_EQ(rows[0]["status"], "done");
  EXPECT_EQ(rows[0]["steps"], 30);
  EXPECT_EQ(rows[0]["final_loss"], 3.5);
  EXPECT_EQ(rows[0]["validation_loss"], 3.25);
  EXPECT_EQ(rows[0]["tokens_per_second"], 200.0);
  EXPECT_EQ(rows[1]["validation_loss"], 3.0);
  EXPECT_EQ(rows[1]["tokens_per_second"], 100.0);
  // Norms 2 · (8 + 8 + 4 + 4) + 8, attention 2 · 4 · 64, MLP 2 · 3 · 96, embedding and head 2 · 400; a summary
  // embedding and own q, k, v.
  EXPECT_EQ(rows[1]["parameters"], 56 + 512 + 576 + 800);
  EXPECT_EQ(rows[0]["parameters"], 56 + 512 + 576 + 800 + 8 + 2 * 3 * 64);
  // Full: 136 pairs of 16 queries. KSA: 10 + 26 + 26 + 26 text and 4 + 8 summaries.
  EXPECT_EQ(rows[1]["keys_a_query"], 136.0 / 16);
  EXPECT_EQ(rows[0]["keys_a_query"], 100.0 / 16);
  // At 100 tokens two layers keep 2 · 4 text and 25 summaries each; an entry is 2 · 2 heads · 4 · 2 bytes.
  EXPECT_EQ(rows[1]["kv_entries_a_token"], 2.0);
  EXPECT_EQ(rows[0]["kv_entries_a_token"], 0.66);
  EXPECT_EQ(rows[0]["kv_bytes_a_token"], 66.0 * 32 / 100);
  EXPECT_EQ(rows[0]["final_loss_minus_full"], 0.25);
  EXPECT_EQ(rows[0]["validation_loss_minus_full"], 0.25);
  EXPECT_EQ(rows[0]["tokens_per_second_over_full"], 2.0);
  EXPECT_EQ(rows[0]["keys_a_query_over_full"], 100.0 / 136);
  EXPECT_EQ(rows[0]["kv_bytes_over_full"], 0.33);
  EXPECT_EQ(rows[1]["final_loss_minus_full"], 0.0);
  EXPECT_EQ(rows[1]["kv_bytes_over_full"], 1.0);
}

TEST_F(SweepTableTest, WhatIsNotThereIsUnknown) {
  Metrics("full", Line(1, 10, 3.0, 50, ""));
  const nlohmann::json rows = Rows({kCellNotRun, 70});
  EXPECT_EQ(rows[0]["status"], "not run");
  EXPECT_TRUE(rows[0]["final_loss"].is_null());
  EXPECT_TRUE(rows[0]["final_loss_minus_full"].is_null());
  EXPECT_TRUE(rows[0]["tokens_per_second_over_full"].is_null());
  EXPECT_EQ(rows[0]["kv_bytes_over_full"], 0.33);
  EXPECT_EQ(rows[1]["status"], "failed (70)");
  EXPECT_TRUE(rows[1]["validation_loss"].is_null());
  std::ofstream(folder_ / "k=4" / "log.txt") << "";
  EXPECT_EQ(Rows({kCellNotRun, 70})[0]["status"], "unfinished") << "it failed or was cut off, in an earlier start";
  EXPECT_EQ(Rows({85, 137})[0]["status"], "stopped");
  EXPECT_EQ(Rows({85, 137})[1]["status"], "killed by signal 9");
}

TEST_F(SweepTableTest, SeveralValidationSourcesHaveAColumnEach) {
  Metrics("k=4", Line(1, 30, 3.0, 50, R"("a":1.0,"b":2.0)"));
  const nlohmann::json rows = Rows({0, 0});
  EXPECT_EQ(rows[0]["validation_loss"], 1.5);
  EXPECT_EQ(rows[0]["validation_loss_a"], 1.0);
  EXPECT_EQ(rows[0]["validation_loss_b"], 2.0);
  EXPECT_TRUE(rows[1]["validation_loss_b"].is_null());
}

TEST_F(SweepTableTest, WithoutFullAttentionThereAreNoComparisons) {
  sweep_.cells.pop_back();
  const Table table = SummarizeSweep(sweep_, {0});
  EXPECT_TRUE(nlohmann::json::parse(table.Json())[0]["kv_bytes_over_full"].is_null());
  EXPECT_EQ(RenderSweepTable(sweep_, table).find("against"), std::string::npos);
  EXPECT_THROW(static_cast<void>(SummarizeSweep(sweep_, {0, 0})), Error);
}

// Two seeds: each cell is compared with the full cell of its own seed, and means are taken over the seeds.
// A cell of latents has full layers too.
TEST_F(SweepTableTest, CellsAreComparedWithAFullCellOfHeadsNotOfLatents) {
  sweep_.cells.clear();
  AddCell("k=4", {});
  AddCell("mla", {"model.attention.pattern=[mla]"});
  AddCell("full", {"model.attention.pattern=[full]"});
  double loss = 3.0;
  for (const char* label : {"k=4", "mla", "full"}) {
    Metrics(label, Line(1, 30, loss, 100, fmt::format(R"("text":{})", loss)));
    loss += 1.0;
  }
  const nlohmann::json rows = Rows({0, 0, 0});
  EXPECT_EQ(rows[0]["validation_loss_minus_full"], -2.0);
  EXPECT_EQ(rows[1]["validation_loss_minus_full"], -1.0);
  EXPECT_EQ(rows[2]["validation_loss_minus_full"], 0.0);
}

TEST_F(SweepTableTest, MeansOverSeedsPairWithTheirOwnFullCell) {
  sweep_.cells.clear();
  sweep_.mean_over = {"run.seed"};
  const double losses[2][2] = {{3.5, 3.0}, {4.5, 4.25}};  // by seed: k=4, full
  for (const int seed : {1, 2}) {
    for (const int full : {0, 1}) {
      const std::string row = full == 1 ? "full" : "k=4";
      const std::string axes = "seed=" + std::to_string(seed);
      const std::string label = axes + "," + row;
      AddCell(label,
              full == 1 ? std::vector<std::string>{"model.attention.pattern=[full]"} : std::vector<std::string>{});
      sweep_.cells.back().axes = axes;
      sweep_.cells.back().group = row;
      sweep_.cells.back().repetition = axes;
      std::ostringstream validation;
      validation << R"("text":)" << losses[seed - 1][full];
      Metrics(label, Line(1, 30, 2.0 * losses[seed - 1][full], 100.0 * seed, validation.str()));
    }
  }
  const Table table = SummarizeSweep(sweep_, {0, 0, 0, 0});
  const nlohmann::json cells = nlohmann::json::parse(table.Json());
  EXPECT_EQ(cells[0]["validation_loss_minus_full"], 0.5);
  EXPECT_EQ(cells[2]["validation_loss_minus_full"], 0.25);
  const nlohmann::json means = nlohmann::json::parse(SweepMeans(sweep_, table).Json());
  ASSERT_EQ(means.size(), 2);
  EXPECT_EQ(means[0]["cell"], "k=4");
  EXPECT_EQ(means[0]["runs"], 2);
  EXPECT_EQ(means[0]["validation_loss_mean"], 4.0);
  EXPECT_NEAR(means[0]["validation_loss_sd"].get<double>(), std::sqrt(0.5), 1e-15);
  EXPECT_EQ(means[0]["validation_loss_minus_full_mean"], 0.375);
  EXPECT_NEAR(means[0]["validation_loss_minus_full_sd"].get<double>(), 0.125 * std::sqrt(2.0), 1e-15);
  EXPECT_EQ(means[1]["tokens_per_second_mean"], 150.0);
  EXPECT_EQ(means[1]["validation_loss_minus_full_sd"], 0.0);
  WriteSweepTable(sweep_, table);
  EXPECT_EQ(nlohmann::json::parse(std::ifstream(folder_ / "table.json"))["means"], means);

  // A cell that was stopped on its way stands in the table, and neither in a mean nor beside one that has seen more.
  Metrics("seed=2,k=4", Line(1, 20, 9.0, 100, R"("text":4.5)"));
  const Table stopped = SummarizeSweep(sweep_, {0, 0, static_cast<int>(ExitCode::kStopped), 0});
  EXPECT_EQ(nlohmann::json::parse(stopped.Json())[2]["validation_loss"], 4.5);
  EXPECT_TRUE(nlohmann::json::parse(stopped.Json())[2]["validation_loss_minus_full"].is_null());
  const nlohmann::json rest = nlohmann::json::parse(SweepMeans(sweep_, stopped).Json());
  EXPECT_EQ(rest[0]["runs"], 1);
  EXPECT_EQ(rest[0]["validation_loss_mean"], 3.5);
  EXPECT_EQ(rest[0]["validation_loss_minus_full_mean"], 0.5);
}

// Of two rates the better one stands in the means, and is what others are compared with.
TEST_F(SweepTableTest, WhatSelectRejectsCountsNoMore) {
  sweep_.cells.clear();
  sweep_.mean_over = {"run.seed"};
  sweep_.select = SweepSelect{{"optimizer.lr"}, "validation_loss", 1};
  const auto add = [&](const std::string& row, const std::string& lr, int seed, double loss) {
    const std::string axes = fmt::format("seed={}", seed);
    const std::string label = axes + "," + lr + "," + row;
    AddCell(label,
            row == "full" ? std::vector<std::string>{"model.attention.pattern=[full]"} : std::vector<std::string>());
    SweepCell& cell = sweep_.cells.back();
    cell.axes = cell.repetition = axes;
    cell.group = lr + "," + row;
    cell.family = row;
    cell.choice = lr;
    cell.judged = seed == 1;
    if (loss > 0) {
      Metrics(label, Line(1, 30, loss, 100, fmt::format(R"("text":{})", loss)));
    }
  };
  add("full", "lr=1", 1, 3.0);
  add("full", "lr=2", 1, 2.5);
  add("k=4", "lr=1", 1, 4.0);
  add("k=4", "lr=2", 1, 5.0);
  add("full", "lr=1", 2, 0);
  add("full", "lr=2", 2, 2.25);
  add("k=4", "lr=1", 2, 3.5);
  add("k=4", "lr=2", 2, 0);
  const Table table = SummarizeSweep(sweep_, {0, 0, 0, 0, kCellNotRun, 0, 0, kCellNotRun});
  const nlohmann::json rows = nlohmann::json::parse(table.Json());
  EXPECT_TRUE(rows[0]["choice"].is_null());
  EXPECT_EQ(rows[1]["choice"], "best");
  EXPECT_EQ(rows[2]["choice"], "best");
  EXPECT_EQ(rows[4]["status"], "not chosen");
  EXPECT_EQ(rows[2]["validation_loss_minus_full"], 1.5) << "full at its own rate, of the same seed";
  EXPECT_EQ(rows[6]["validation_loss_minus_full"], 1.25);
  const nlohmann::json means = nlohmann::json::parse(SweepMeans(sweep_, table).Json());
  ASSERT_EQ(means.size(), 2U);
  EXPECT_EQ(means[0]["cell"], "lr=2,full");
  EXPECT_EQ(means[0]["validation_loss_mean"], 2.375);
  EXPECT_EQ(means[1]["cell"], "lr=1,k=4");
  EXPECT_EQ(means[1]["runs"], 2);
  EXPECT_NE(RenderSweepTable(sweep_, table).find("the best by validation_loss is kept (chosen by run.seed 1)"),
            std::string::npos);
  // Before anything is chosen all stand in the means, and what waits says so.
  const Table early = SummarizeSweep(
      sweep_, {0, kCellNotRun, kCellNotRun, kCellNotRun, kCellNotRun, kCellNotRun, kCellNotRun, kCellNotRun});
  EXPECT_EQ(nlohmann::json::parse(early.Json())[1]["status"], "not run");
  EXPECT_EQ(nlohmann::json::parse(early.Json())[4]["status"], "waits");
  EXPECT_EQ(nlohmann::json::parse(SweepMeans(sweep_, early).Json()).size(), 4U);
}

TEST_F(SweepTableTest, TaskAccuracyHasAColumnAndAMean) {
  sweep_.mean_over = {"run.seed"};
  const std::string path = (folder_ / "k=4" / "metrics.jsonl").string();
  std::ofstream(path) << R"({"run_id":"r","attempt":1,"step":1,"loss":1,"task_accuracy":{"recall":0.75}})"
                      << "\n"
                      << R"({"run_id":"r","attempt":1,"step":2,"loss":1,"task_accuracy":{}})"
                      << "\n";
  const Table table = SummarizeSweep(sweep_, {0, 0});
  EXPECT_EQ(nlohmann::json::parse(table.Json())[0]["task_accuracy_recall"], 0.75);
  EXPECT_EQ(nlohmann::json::parse(SweepMeans(sweep_, table).Json())[0]["task_accuracy_recall_mean"], 0.75);
}

TEST_F(SweepTableTest, FitsAHundredColumns) {
  sweep_.cells.clear();
  sweep_.mean_over = {"run.seed"};
  AddCell("seed=1234,chunk_size=32,window_chunks=16", {});
  AddCell("seed=1235,chunk_size=32,window_chunks=16", {});
  AddCell("seed=1234,full", {"model.attention.pattern=[full]"});
  double loss = 12.34567;
  for (SweepCell& cell : sweep_.cells) {
    cell.group = cell.label.substr(cell.label.find(',') + 1);
    Metrics(cell.label, Line(1, 20000, loss, 1234567, fmt::format(R"("text":{})", loss)));
    loss += 0.125;
  }
  std::istringstream text(RenderSweepTable(sweep_, SummarizeSweep(sweep_, {0, 0, 137})));
  for (std::string line; std::getline(text, line);) {
    EXPECT_LE(line.size(), 100U) << line;
  }
}

TEST_F(SweepTableTest, FilesHoldTheTable) {
  Metrics("k=4", Line(1, 30, 3.5, 50, R"("text":3.25)"));
  const Table table = SummarizeSweep(sweep_, {0, 0});
  WriteSweepTable(sweep_, table);
  std::ostringstream text;
  text << std::ifstream(folder_ / "table.txt").rdbuf();
  EXPECT_EQ(text.str(), RenderSweepTable(sweep_, table));
  EXPECT_NE(text.str().find("against full attention"), std::string::npos);
  std::ostringstream csv;
  csv << std::ifstream(folder_ / "table.csv").rdbuf();
  EXPECT_EQ(csv.str(), table.Csv());
  const nlohmann::json json = nlohmann::json::parse(std::ifstream(folder_ / "table.json"));
  EXPECT_EQ(json["sweep"], "test");
  EXPECT_EQ(json["kv_length"], 100);
  EXPECT_EQ(json["full_attention_cell"], "full");
  EXPECT_EQ(json["rows"], nlohmann::json::parse(table.Json()));
  fs::create_directories(folder_ / "blocked" / "table.txt");
  sweep_.dir = (folder_ / "blocked").string();
  EXPECT_THROW(WriteSweepTable(sweep_, table), Error);
}

TEST_F(SweepTableTest, ACellIsCompleteWithItsLastCheckpointAndThisConfiguration) {
  SweepCell& cell = sweep_.cells[0];
  const fs::path run = folder_ / cell.label;
  EXPECT_FALSE(IsComplete(cell));
  Config config = cell.config;
  ResolveDevice(config, false);
  CheckAgainstRanks(config, 1);
  std::ofstream(run / "config.resolved.yaml") << RenderConfig(config);
  fs::create_directories(run / "checkpoints" / "step_00000020");
  EXPECT_FALSE(IsComplete(cell));
  fs::create_directories(run / "checkpoints" / "step_00000030.tmp-r");
  EXPECT_FALSE(IsComplete(cell));
  fs::create_directories(run / "checkpoints" / "step_00000030");
  EXPECT_TRUE(IsComplete(cell));
  cell.config.logging.interval = 5;  // a resume may change it
  EXPECT_TRUE(IsComplete(cell));
  cell.config.training.hard_stop = 25;
  EXPECT_TRUE(IsComplete(cell));
  cell.config.model.ksa.window_chunks = 2;
  EXPECT_FALSE(IsComplete(cell));
}

// Whether it ran on a GPU or on the CPU was decided there; the sweep's own process need not see the same.
TEST_F(SweepTableTest, ACellIsCompleteWhereverItRan) {
  if (!BuildHasCuda()) {
    GTEST_SKIP() << "a configuration with run.device: cuda needs a build with CUDA";
  }
  SweepCell& cell = sweep_.cells[0];
  const fs::path run = folder_ / cell.label;
  fs::create_directories(run / "checkpoints" / "step_00000030");
  for (const DeviceChoice asked : {DeviceChoice::kAuto, DeviceChoice::kCuda}) {
    cell.config.run.device = asked;
    cell.config.training.precision.reset();
    Config config = cell.config;
    config.run.device = DeviceChoice::kCuda;
    ResolveDevice(config, true);
    CheckAgainstRanks(config, 1);
    std::ofstream(run / "config.resolved.yaml") << RenderConfig(config);
    EXPECT_TRUE(IsComplete(cell));
    cell.config.training.precision = DType::kF32;
    EXPECT_FALSE(IsComplete(cell)) << "bf16 is no fp32";
  }
}

}  // namespace
}  // namespace ksa
