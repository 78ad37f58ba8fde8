// What the samples of tasks are functions of, how they are distributed, and what is refused.
#include "tests/data/task_samples.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "data/loader/dataset.h"
#include "data/loader/open_source.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::MadeSample;
using testing::TaskCase;

std::vector<TaskCase> AllTasks() {
  std::vector<TaskCase> tasks;
  for (const TaskKind& kind : TaskKinds()) {
    if (!kind.is_text) {
      tasks.push_back({.task = kind.name, .length = 113, .vocab_size = 300});
    }
  }
  return tasks;
}

TEST(TaskSamples, AreAFunctionOfSeedTaskNameUseAndNumber) {
  for (const TaskCase& task : AllTasks()) {
    SCOPED_TRACE(task.task);
    const MadeSample sample = task.Sample(5);
    EXPECT_EQ(task.Sample(5).inputs, sample.inputs);
    EXPECT_EQ(task.Sample(5).targets, sample.targets);
    EXPECT_EQ(task.Sample(int64_t{1} << 60).inputs, task.Sample(int64_t{1} << 60).inputs);
    TaskCase seed = task;
    seed.seed = 8;
    TaskCase name = task;
    name.name = "b";
    TaskCase use = task;
    use.use = TaskUse::kTraining;
    const std::set<std::vector<int32_t>> all = {
        sample.inputs, task.Sample(6).inputs, seed.Sample(5).inputs, name.Sample(5).inputs, use.Sample(5).inputs};
    EXPECT_EQ(all.size(), 5U) << "samples that should differ are equal";
  }
}

// The first ids of sample 3 of every task, as they were when the tasks were made: a run that goes on needs the same.
TEST(TaskSamples, StayWhatTheyAre) {
  std::vector<std::string> first;
  for (const TaskCase& task : AllTasks()) {
    const MadeSample sample = task.Sample(3);
    first.push_back(fmt::format("{}: {}", task.task, fmt::join(sample.inputs.begin(), sample.inputs.begin() + 6, " ")));
  }
  EXPECT_EQ(first,
            (std::vector<std::string>{"recall_stream: 24 212 62 198 110 131",
                                      "mqar: 39 213 56 259 61 264",
                                      "forgetting: 73 209 66 250 17 243",
                                      "needle: 264 220 95 271 281 209",
                                      "variable_tracking: 0 0 0 0 61 266",
                                      "copy: 15 9 35 7 45 11"}));
}

TEST(TaskSamples, TheDatasetMixesTasksAndNeedsNoFolder) {
  DatasetConfig config = TaskCase{.task = "copy", .length = 80, .vocab_size = 100}.Config();
  TrainSource copy = {.path = "", .weight = 3, .name = ""};
  copy.task = ParseTaskSpec("copy:span=8");
  TrainSource needle = {.path = "", .weight = 1, .name = "hay"};
  needle.task = ParseTaskSpec("needle");
  config.train = {copy, needle};
  ValidationSource held = {.path = "", .name = ""};
  held.task = copy.task;
  config.validation = {held};
  const Dataset dataset(config);
  EXPECT_FALSE(dataset.HasTokenizer());
  EXPECT_EQ(dataset.TokenizerPath(), "");
  EXPECT_FALSE(dataset.TokensPerEpoch().has_value());
  ASSERT_EQ(dataset.train_sources().size(), 2U);
  EXPECT_EQ(dataset.train_sources()[0].name, "copy");
  EXPECT_EQ(dataset.train_sources()[0].share, 768);
  EXPECT_TRUE(dataset.train_sources()[1].endless());

  // A block of 1024 samples holds the first samples of both sources, each once, however it is cut.
  Batch whole;
  dataset.MakeBatch(0, 1024, whole);
  EXPECT_EQ(std::count(whole.source.begin(), whole.source.end(), 0), 768);
  std::multiset<std::vector<int32_t>> made;
  std::multiset<std::vector<int32_t>> expected;
  const TaskStream first(copy.task, "copy", TaskUse::kTraining, config, nullptr);
  const TaskStream second(needle.task, "hay", TaskUse::kTraining, config, nullptr);
  Batch one;
  for (int64_t i = 0; i < 1024; ++i) {
    made.emplace(whole.inputs.begin() + i * 80, whole.inputs.begin() + (i + 1) * 80);
    ResizeBatch(0, 1, config, one);
    i < 768 ? first.Fill(i, 0, one) : second.Fill(i - 768, 0, one);
    expected.insert(one.inputs);
  }
  EXPECT_EQ(made, expected);
  EXPECT_EQ(whole.target_count, 768 * 8 + 256);
  Batch part;
  dataset.MakeBatch(1000, 7, part);
  EXPECT_TRUE(std::equal(part.targets.begin(), part.targets.end(), whole.targets.begin() + int64_t{1000} * 80));

  // Validation takes the first samples, and others than training.
  dataset.MakeValidationBatch(0, dataset.validation_sources()[0].Take(5), 2, 3, part);
  const TaskStream validation(copy.task, "copy", TaskUse::kValidation, config, nullptr);
  ResizeBatch(0, 1, config, one);
  validation.Fill(3, 0, one);
  EXPECT_TRUE(std::equal(one.inputs.begin(), one.inputs.end(), part.inputs.begin() + 80));
}

TEST(TaskSamples, TheFingerprintKnowsTaskKeysAndName) {
  DatasetConfig config = TaskCase{.task = "copy", .length = 80, .vocab_size = 100}.Config();
  const auto fingerprint = [&](const std::string& task, const std::string& name) {
    TrainSource source = {.path = "", .weight = 1, .name = name};
    source.task = ParseTaskSpec(task);
    config.train = {source};
    return Dataset(config).Fingerprint();
  };
  EXPECT_EQ(fingerprint("copy:span=8", "a"), fingerprint("copy:span=8", "a"));
  const std::set<std::string> all = {fingerprint("copy:span=8", "a"),
                                     fingerprint("copy:span=9", "a"),
                                     fingerprint("copy:span=8", "b"),
                                     fingerprint("needle", "a"),
                                     fingerprint("copy:span=8,symbols=9", "a")};
  EXPECT_EQ(all.size(), 5U);
}

// One gap of `slots`: slot g comes in proportion to (g + 1)^(power - 1).
TEST(TaskDistributions, GapsFollowThePowerLaw) {
  constexpr int64_t kSamples = 4000;
  for (const double power : {0.01, 0.5, 1.0}) {
    const TaskCase task = {
        .task = fmt::format("mqar:pairs=1,keys=8,values=8,power={}", power), .length = 22, .vocab_size = 19};
    std::vector<double> counts(10);
    for (int64_t number = 0; number < kSamples; ++number) {
      counts[static_cast<size_t>(task.Sample(number).answers.at(0).row - 2) / 2] += 1;
    }
    double sum = 0;
    for (size_t g = 0; g < counts.size(); ++g) {
      sum += std::pow(static_cast<double>(g + 1), power - 1);
    }
    for (size_t g = 0; g < counts.size(); ++g) {
      const double p = std::pow(static_cast<double>(g + 1), power - 1) / sum;
      const double deviation = std::sqrt(p * (1 - p) / kSamples);
      EXPECT_NEAR(counts[g] / kSamples, p, 4 * deviation) << "gap " << g << " with power " << power;
    }
  }
}

TEST(TaskDistributions, ThePoolGrowsOverItsSamplesInTrainingAlone) {
  TaskCase task = {.task = "recall_stream:keys=64,values=8,pool_start=8,pool_samples=100",
                   .length = 512,
                   .vocab_size = 75,
                   .use = TaskUse::kTraining};
  const auto most = [&](int64_t number) {
    int32_t key = 0;
    const MadeSample sample = task.Sample(number);
    for (size_t row = 0; row < sample.inputs.size(); row += 2) {
      key = std::max(key, sample.inputs[row] - 3);
    }
    return key;
  };
  EXPECT_LT(most(0), 8);
  EXPECT_LT(most(50), 36);
  EXPECT_GE(most(50), 18) << "256 draws of 36 keys";
  EXPECT_LT(most(99), 64);
  EXPECT_GE(std::max(most(100), most(1000)), 56);
  task.task = "recall_stream:keys=64,values=8";
  task.use = TaskUse::kValidation;
  EXPECT_GE(most(0), 48);
}

TEST(TaskDistributions, DepthsAndSymbolsAreEven) {
  const TaskCase needle = {.task = "needle:keys=9,values=9", .length = 104, .vocab_size = 21};
  std::map<double, int> depths;
  for (int64_t number = 0; number < 2000; ++number) {
    ++depths[needle.Sample(number).answers.at(0).by[0]];
  }
  EXPECT_EQ(depths.size(), 11U);
  for (const auto& [depth, count] : depths) {
    EXPECT_NEAR(count, depth == 0 || depth == 1 ? 100 : 200, 60) << depth;  // 4 deviations
  }
  std::map<int32_t, int> symbols;
  const TaskCase copy = {.task = "copy:span=50,symbols=10", .length = 101, .vocab_size = 13};
  for (int64_t number = 0; number < 100; ++number) {
    const MadeSample sample = copy.Sample(number);
    for (size_t i = 0; i < 50; ++i) {
      ++symbols[sample.inputs[i]];
    }
  }
  EXPECT_EQ(symbols.size(), 10U);
  for (const auto& [symbol, count] : symbols) {
    EXPECT_NEAR(count, 500, 4 * std::sqrt(450.0)) << symbol;
  }
}

TEST(TaskRefusals, WhatDoesNotFit) {
  struct Bad {
    TaskCase task;
    ExitCode code;
    const char* message;
  };

  const Bad cases[] = {
      {{.task = "recall_stream", .length = 64, .vocab_size = 258}, ExitCode::kBadData, "a vocabulary of 259"},
      {{.task = "recall_stream", .length = 2, .vocab_size = 300}, ExitCode::kConfig, "a sample has 3 rows"},
      {{.task = "recall_stream:keys=8,pool_start=9", .length = 64, .vocab_size = 300},
       ExitCode::kConfig,
       "pool_start 9 is more than its 8 keys"},
      {{.task = "mqar:pairs=[4,17]", .length = 64, .vocab_size = 99}, ExitCode::kConfig, "a sample has 68 rows"},
      {{.task = "mqar:pairs=9,keys=8", .length = 64, .vocab_size = 99}, ExitCode::kConfig, "9 pairs need"},
      {{.task = "mqar:pairs=16", .length = 64, .vocab_size = 20}, ExitCode::kBadData, "16 pairs need"},
      {{.task = "mqar:keys=97", .length = 64, .vocab_size = 100}, ExitCode::kBadData, "97 keys and 0 values"},
      {{.task = "mqar", .length = 64, .vocab_size = 3}, ExitCode::kBadData, "0 keys"},
      {{.task = "forgetting:pairs=8,writes=3", .length = 63, .vocab_size = 99}, ExitCode::kConfig, "has 64 rows"},
      {{.task = "needle", .length = 3, .vocab_size = 99}, ExitCode::kConfig, "has 4 rows"},
      {{.task = "variable_tracking", .length = 25, .vocab_size = 99}, ExitCode::kConfig, "has 26 rows"},
      {{.task = "variable_tracking:values=1", .length = 64, .vocab_size = 99}, ExitCode::kConfig, "2 chains need"},
      {{.task = "variable_tracking:chains=9", .length = 512, .vocab_size = 90}, ExitCode::kBadData, "vocabulary of 92"},
      {{.task = "copy", .length = 64, .vocab_size = 99}, ExitCode::kConfig, "has 65 rows"},
      {{.task = "copy", .length = 65, .vocab_size = 66}, ExitCode::kBadData, "vocabulary of 67"},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.task.task);
    EXPECT_KSA_ERROR(bad.task.Stream(), bad.code, bad.message);
    DatasetConfig config = bad.task.Config();
    config.train = {{.path = "", .weight = 1, .name = ""}};
    config.train[0].task = ParseTaskSpec(bad.task.task);
    const std::vector<SourceProblem> problems = FindSourceProblems(config);
    ASSERT_EQ(problems.size(), 1U);
    EXPECT_EQ(problems[0].source, "data.train[0]");
    EXPECT_EQ(problems[0].code, bad.code);
  }
}

TEST(TaskRefusals, WordsAfterTheOption) {
  const std::pair<const char*, const char*> cases[] = {
      {"mqra", "unknown task 'mqra'; the tasks are recall_stream, mqar"},
      {"mqar:pair=4", "got 'pair=4'; its keys are pairs, keys"},
      {"mqar:pairs", "expected key=value"},
      {"mqar:pairs=[4,x]", "expects a number, got 'x'"},
      {"mqar:pairs=0", "pairs must be at least 1, got 0"},
      {"mqar:pairs=1.5", "must be a whole number"},
      {"mqar:keys=[4,5]", "keys is one number"},
      {"mqar:power=2", "power must be at most 1"},
      {"mqar:filler=none", "filler is one of random, pad"},
      {"mqar:keys=4,keys=5", "keys is given twice"},
      {"needle:depth=1.5", "depth must be at most 1"},
      {"needle:depth=[]", "expects a number"},
  };
  for (const auto& [text, message] : cases) {
    SCOPED_TRACE(text);
    EXPECT_KSA_ERROR(ParseTaskSpec(text), ExitCode::kUsage, message);
  }
  const TaskSpec spec = ParseTaskSpec("mqar:pairs=[4, 8],filler=pad,power=0.5");
  EXPECT_EQ(spec.List("pairs", {}), (std::vector<double>{4, 8}));
  EXPECT_EQ(spec.Integer("filler", 0), 1);
  EXPECT_EQ(spec.Number("power", 0), 0.5);
  EXPECT_EQ(spec.Integer("keys", 77), 77);
}

}  // namespace
}  // namespace ksa
