// Tasks in a configuration: what is read, written and refused, and what a resume may change.
#include "data/tasks/task.h"
#include "tests/trainer/config/support.h"

namespace ksa {
namespace {

using testing::ExpectReports;
using testing::Snippets;

TEST(TaskConfig, IsReadAndWritten) {
  const Snippets snippets;
  const Config config = snippets
                            .Load(
                                "data:\n"
                                "  train:\n"
                                "    - {task: mqar, weight: 3, name: recall, pairs: [4, 8], filler: pad}\n"
                                "    - {path: data/x, weight: 1}\n"
                                "  validation: [{task: needle, depth: 0.5}]\n"
                                "evaluation: {interval: 5, tasks: [{task: copy, samples: 9, span: 4}]}\n")
                            .config;
  ASSERT_EQ(config.data.train.size(), 2U);
  EXPECT_EQ(config.data.train[0].task.kind, "mqar");
  EXPECT_EQ(config.data.train[0].name, "recall");
  EXPECT_EQ(config.data.train[0].weight, 3.0);
  EXPECT_EQ(config.data.train[0].task.List("pairs", {}), (std::vector<double>{4, 8}));
  EXPECT_EQ(config.data.train[0].task.Integer("filler", 0), 1);
  EXPECT_EQ(config.data.train[1].task.kind, "");
  EXPECT_EQ(config.data.validation[0].name, "needle");
  EXPECT_EQ(config.evaluation.tasks[0].samples, 9);
  EXPECT_EQ(config.evaluation.tasks[0].name, "copy");
  const Config again = ParseConfig(RenderConfig(config), "again.yaml").config;
  EXPECT_EQ(again, config);
}

TEST(TaskConfig, ThePoolGrowsOverSixTenthsOfTheSourcesShare) {
  const Snippets snippets;
  const std::string task =
      "data: {train: [{task: recall_stream, weight: 1, keys: 30, values: 30}, {path: d, weight: 3}]}\n";
  const Config config = snippets.Load(task).config;
  EXPECT_EQ(config.data.train[0].task.Integer("pool_samples", -1), 120) << "of 100 updates of 8 samples a quarter";
  EXPECT_TRUE(config.data.train[0].task.pool_follows);
  const Config written = ParseConfig(RenderConfig(config), "written.yaml").config;
  EXPECT_EQ(written, config);
  EXPECT_FALSE(written.data.train[0].task.pool_follows);
  EXPECT_EQ(snippets.Load(task, {"training.max_steps=1000"}).config.data.train[0].task.Integer("pool_samples", -1),
            1200);
}

TEST(TaskConfig, Mistakes) {
  ExpectReports({
      {"data: {train: [{task: mqra}]}\n",
       "t.yaml:2:23: data.train[0].task: expected one of recall_stream, mqar, forgetting, needle, variable_tracking, "
       "copy, niah_single, niah_multikey, niah_multivalue, vt, cwe, fwe, got 'mqra'; did you mean 'mqar'?"},
      {"data: {train: [{task: mqar, pair: 4}]}\n",
       "t.yaml:2:29: data.train[0].pair: unknown key; did you mean 'pairs'?"},
      {"data: {train: [{task: mqar, path: x}]}\n",
       "t.yaml:2:29: data.train[0].path: unknown key; the keys here are task, name, weight, pairs, keys, values, "
       "power, "
       "filler"},
      {"data: {train: [{task: mqar, pairs: [4, 0]}]}\n",
       "t.yaml:2:40: data.train[0].pairs[1]: must be at least 1, got 0"},
      {"data: {train: [{task: mqar, pairs: []}]}\n", "t.yaml:2:36: data.train[0].pairs: needs at least one number"},
      {"data: {train: [{task: mqar, keys: [4]}]}\n",
       "t.yaml:2:35: data.train[0].keys: expected a whole number, got a list"},
      {"data: {train: [{task: needle, depth: 1.5}]}\n", "t.yaml:2:38: data.train[0].depth: must be at most 1, got 1.5"},
      {"data: {train: [{task: mqar, filler: none}]}\n",
       "t.yaml:2:37: data.train[0].filler: expected one of random, pad, got 'none'"},
      {"data: {train: [{task: mqar, pairs: 17}]}\n",
       "t.yaml:2:15: data.train[0]: task mqar: a sample has 68 rows (the pairs, and as many questions of two), but "
       "the sequence has 64 tokens; make the sample smaller, or the sequence longer (training.sequence_length; "
       "--lengths of ksa eval)"},
      {"data: {validation: [{task: recall_stream, pool_start: 4}]}\n",
       "t.yaml:2:55: data.validation[0].pool_start: belongs to data.train: only there the keys in use grow in number, "
       "elsewhere all are in use; remove it"},
      {"data: {validation: [{task: copy, span: 8}]}\nevaluation: {batches: all}\n",
       "t.yaml:3:23: evaluation.batches: all of 'copy' is without end, as a task makes its samples; give a number"},
      {"evaluation: {tasks: [{task: copy, span: 8}, {task: copy, span: 9}]}\n",
       "t.yaml:2:21: evaluation.tasks[1].name: 'copy' is the name of source 0 too; give each a name of its own"},
      {"evaluation: {tasks: [{task: copy, span: 40}]}\n",
       "t.yaml:2:21: evaluation.tasks[0]: task copy: a sample has 81 rows (the span, its end, and the span again), but "
       "the sequence has 64 tokens; make the sample smaller, or the sequence longer (training.sequence_length; "
       "--lengths of ksa eval)"},
      {"evaluation: {tasks: [{task: copy, samples: 0}]}\n",
       "t.yaml:2:44: evaluation.tasks[0].samples: must be at least 1, got 0"},
  });
}

TEST(TaskConfig, AResumeChangesNoTask) {
  const Snippets snippets;
  const auto load = [&](const std::string& source) {
    return snippets.Load("data: {train: [" + source + "]}\n").config;
  };
  const Config old_config = load("{task: copy, span: 8}");
  for (const char* changed :
       {"{task: copy, span: 9}", "{task: copy, span: 8, name: b}", "{task: needle}", "{path: x}"}) {
    const std::vector<ConfigDifference> differences = DiffConfigs(old_config, load(changed));
    ASSERT_EQ(differences.size(), 1U) << changed;
    EXPECT_EQ(differences[0].key, "data.train");
    EXPECT_FALSE(differences[0].allowed) << changed;
  }
  EXPECT_TRUE(DiffConfigs(old_config, load("{task: copy, span: 8, weight: 1.0}")).empty());
}

}  // namespace
}  // namespace ksa
