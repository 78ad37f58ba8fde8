// Sweep files.
#include "trainer/config/sweep.h"

#include <gtest/gtest.h>

#include "model/mixers/swa/swa.h"
#include "tests/trainer/config/support.h"
#include "trainer/config/cell_report.h"

namespace ksa {
namespace {

class SweepTest : public ::testing::Test {
 protected:
  SweepTest() { static_cast<void>(folder_.Write("base.yaml", testing::kBase)); }

  [[nodiscard]] Sweep Load(const std::string& text, const std::vector<std::string>& sets = {}) const {
    return LoadSweep(folder_.Write("s.yaml", text), sets);
  }

  [[nodiscard]] std::string Report(const std::string& text) const {
    try {
      static_cast<void>(Load(text));
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      return folder_.Strip(error.what());
    }
  }

  testing::TemporaryFolder folder_;
};

std::vector<std::string> Labels(const Sweep& sweep) {
  std::vector<std::string> labels;
  for (const SweepCell& cell : sweep.cells) {
    labels.push_back(cell.label);
  }
  return labels;
}

TEST(CellReport, SaysOnceWhatSeveralCellsShare) {
  CellReport report;
  EXPECT_TRUE(report.empty());
  report.Add("a", "all\nonly a\ntwice in a\ntwice in a");
  report.Add("b", "b and c\nall");
  report.Add("c", "all\nb and c");
  EXPECT_EQ(report.Text(3), "every cell: all\ncell a: only a\ncell a: twice in a\ncell b and 1 more: b and c");
  EXPECT_EQ(report.Lines(4).front(), "cell a and 2 more: all");
  CellReport one;
  one.Add("a", "all");
  EXPECT_EQ(one.Text(1), "cell a: all") << "a sweep of one cell";
}

TEST(SweepFile, IsToldFromARunConfiguration) {
  const testing::TemporaryFolder folder;
  EXPECT_TRUE(IsSweepFile(folder.Write("s.yaml", "name: s\nbase: base.yaml\naxes: {run.seed: [1]}\n")));
  EXPECT_TRUE(IsSweepFile(folder.Write("half.yaml", "base: base.yaml\nzip: 3\n"))) << "with mistakes as well";
  EXPECT_FALSE(IsSweepFile(folder.Write("run.yaml", testing::kBase)));
  EXPECT_FALSE(IsSweepFile(folder.Write("stray.yaml", testing::kBase + std::string("base: x\n"))));
  EXPECT_FALSE(IsSweepFile(folder.Write("empty.yaml", "")));
  EXPECT_FALSE(IsSweepFile(folder.Write("broken.yaml", "{[")));
}

TEST_F(SweepTest, ProductOfAxesAndRows) {
  const Sweep sweep = Load(
      "name: s\nbase: base.yaml\nkv_length: 1000\n"
      "axes: {run.seed: [1, 2], optimizer.lr: [1e-3, 2e-3]}\n"
      "zip:\n"
      "  - {model.attention.ksa.chunk_size: 4, model.attention.ksa.window_chunks: 4}\n"
      "  - {model.attention.ksa.chunk_size: 8, model.attention.ksa.window_chunks: 2}\n"
      "variants: {full: {model.attention.pattern: [full]}}\n");
  EXPECT_EQ(sweep.name, "s");
  EXPECT_EQ(sweep.dir, "runs/s");
  EXPECT_EQ(sweep.kv_length, 1000);
  EXPECT_EQ(Labels(sweep),
            (std::vector<std::string>{"seed=1,lr=1e-3,chunk_size=4,window_chunks=4",
                                      "seed=1,lr=1e-3,chunk_size=8,window_chunks=2",
                                      "seed=1,lr=1e-3,full",
                                      "seed=1,lr=2e-3,chunk_size=4,window_chunks=4",
                                      "seed=1,lr=2e-3,chunk_size=8,window_chunks=2",
                                      "seed=1,lr=2e-3,full",
                                      "seed=2,lr=1e-3,chunk_size=4,window_chunks=4",
                                      "seed=2,lr=1e-3,chunk_size=8,window_chunks=2",
                                      "seed=2,lr=1e-3,full",
                                      "seed=2,lr=2e-3,chunk_size=4,window_chunks=4",
                                      "seed=2,lr=2e-3,chunk_size=8,window_chunks=2",
                                      "seed=2,lr=2e-3,full"}));
  const Config& third = sweep.cells[3].config;
  EXPECT_EQ(third.run.seed, 1U);
  EXPECT_EQ(third.optimizer.lr, 2e-3);
  EXPECT_EQ(third.model.ksa.chunk_size, 4);
  EXPECT_EQ(third.model.ksa.window_chunks, 4);
  EXPECT_EQ(third.run.name, "s-seed=1,lr=2e-3,chunk_size=4,window_chunks=4");
  EXPECT_EQ(third.run.dir, "runs/s/seed=1,lr=2e-3,chunk_size=4,window_chunks=4");
  EXPECT_FALSE(sweep.cells.back().config.model.HasSummaryRows());
  EXPECT_EQ(sweep.cells.back().config.run.seed, 2U) << "a variant has the values of the axes";
  // The cell's own values, as --set takes them, make its configuration.
  EXPECT_EQ(LoadConfig(sweep.base, sweep.cells[3].sets).config, third);
}

TEST_F(SweepTest, DirCommonSetsAndValuesOfAnyShape) {
  const Sweep sweep = Load(
      "name: s\ndir: out/here\nbase: base.yaml\n"
      "axes: {model.attention.pattern: [[ksa], [ksa, {kind: swa, window: 8}]], optimizer.betas: [[0.9, 0.95]]}\n",
      {"run.seed=9", "training.max_steps=5"});
  ASSERT_EQ(sweep.cells.size(), 2U);
  EXPECT_EQ(sweep.cells[0].config.run.seed, 9U);
  EXPECT_EQ(sweep.cells[1].config.training.max_steps, 5);
  EXPECT_EQ(sweep.cells[1].config.model.layers[1], SwaLayer(8));
  EXPECT_EQ(sweep.cells[1].config.run.dir.substr(0, 9), "out/here/");
  EXPECT_EQ(sweep.cells[1].label.find_first_of("/ \"'{}[]:"), std::string::npos) << sweep.cells[1].label;
}

TEST_F(SweepTest, VariantsAloneAndWithAxes) {
  EXPECT_EQ(Labels(Load("name: s\nbase: base.yaml\nvariants: {a: {run.seed: 1}, b: {run.seed: 2}}\n")),
            (std::vector<std::string>{"a", "b"}));
  const Sweep sweep = Load(
      "name: s\nbase: base.yaml\naxes: {run.seed: [1, 2], optimizer.lr: [1e-3, 2e-3]}\nmean_over: [run.seed]\n"
      "variants: {full: {model.attention.pattern: [full]}}\n");
  ASSERT_EQ(sweep.cells.size(), 4U);
  EXPECT_EQ(sweep.cells[1].label, "seed=1,lr=2e-3,full");
  EXPECT_EQ(sweep.cells[1].axes, "seed=1,lr=2e-3");
  EXPECT_EQ(sweep.cells[1].group, "lr=2e-3,full");
  EXPECT_EQ(sweep.cells[1].repetition, "seed=1");
  EXPECT_EQ(sweep.cells[3].group, "lr=2e-3,full");
  EXPECT_EQ(sweep.mean_over, std::vector<std::string>{"run.seed"});
}

TEST_F(SweepTest, ListsHaveNoBracketsAndLongNamesAHash) {
  EXPECT_EQ(Labels(Load("name: s\nbase: base.yaml\naxes: {model.attention.pattern: [[full], [ksa, full]]}\n")),
            (std::vector<std::string>{"pattern=full", "pattern=ksa,full"}));
  const std::string a(150, 'a');
  const std::string b(150, 'b');
  const Sweep sweep = Load("name: s\nbase: base.yaml\naxes: {data.train: [[{path: " + a + "}, {path: " + b +
                           "}], [{path: " + a + "}, {path: " + b + "c}]]}\n");
  ASSERT_EQ(sweep.cells.size(), 2U);
  const std::string first = CellFolderName(sweep.cells[0].label);
  EXPECT_GT(sweep.cells[0].label.size(), 300U);
  EXPECT_EQ(first.size(), 200U);
  EXPECT_NE(first, CellFolderName(sweep.cells[1].label)) << "they differ only behind the cut";
  EXPECT_EQ(sweep.cells[0].config.run.dir, "runs/s/" + first);
  EXPECT_EQ(CellFolderName("seed=1"), "seed=1");
}

TEST_F(SweepTest, AWindowThatMovesWithTheChunkIsAWarning) {
  const std::string head = "name: s\nbase: base.yaml\n";
  EXPECT_TRUE(Load(head + "zip: [{model.attention.ksa.chunk_size: 4, model.attention.ksa.window_chunks: 4},"
                          " {model.attention.ksa.chunk_size: 8, model.attention.ksa.window_chunks: 2}]\n"
                          "variants: {full: {model.attention.pattern: [full]}}\n")
                  .warnings.empty());
  EXPECT_EQ(Load(head + "axes: {model.attention.ksa.chunk_size: [4, 8]}\n").warnings.size(), 1U);
  // Each k with both windows: nothing is confounded.
  EXPECT_TRUE(Load(head + "zip: [{model.attention.ksa.chunk_size: 4, model.attention.ksa.window_chunks: 4},"
                          " {model.attention.ksa.chunk_size: 4, model.attention.ksa.window_chunks: 8},"
                          " {model.attention.ksa.chunk_size: 8, model.attention.ksa.window_chunks: 2},"
                          " {model.attention.ksa.chunk_size: 8, model.attention.ksa.window_chunks: 4}]\n")
                  .warnings.empty());
}

TEST_F(SweepTest, LabelsOfEqualLastParts) {
  const Sweep sweep = Load("name: s\nbase: base.yaml\nzip: [{logging.interval: 2, checkpoint.interval: 3}]\n");
  EXPECT_EQ(Labels(sweep), (std::vector<std::string>{"logging.interval=2,checkpoint.interval=3"}));
}

TEST_F(SweepTest, Mistakes) {
  const std::string head = "name: s\nbase: base.yaml\n";
  EXPECT_EQ(Report("axis: {}\n"),
            "s.yaml:1:1: axis: unknown key; did you mean 'axes'?\n"
            "s.yaml:1:1: name: missing; every sweep has it\n"
            "s.yaml:1:1: base: missing; every sweep has it\n"
            "s.yaml:1:1: axes: missing; a sweep has at least one of axes, zip and variants");
  EXPECT_EQ(Report(head), "s.yaml:1:1: axes: missing; a sweep has at least one of axes, zip and variants");
  EXPECT_EQ(Report(head + "zip: []\n"),
            "s.yaml:1:1: document: expands to no cell, or to more than 10000; change axes, zip or variants");
  EXPECT_EQ(Report("name: s\nbase: gone.yaml\nzip: [{run.seed: 1}]\n"),
            "s.yaml:2:7: base: gone.yaml: no such file, neither beside this one nor in the working directory");
  EXPECT_EQ(Report(head + "axes: {run.sed: [1]}\n"), "s.yaml:3:8: axes.run.sed: unknown key; did you mean 'run.seed'?");
  EXPECT_EQ(Report(head + "axes: {run.seed: 1}\n"), "s.yaml:3:18: axes.run.seed: expected a list of values, got '1'");
  EXPECT_EQ(Report(head + "axes: {run.seed: []}\n"),
            "s.yaml:3:18: axes.run.seed: expected a list of values, got an empty one");
  EXPECT_EQ(Report(head + "axes: {run.name: [a]}\n"),
            "s.yaml:3:8: axes.run.name: the sweep names its runs and their folders; remove it");
  EXPECT_EQ(Report(head + "zip: {run.seed: 1}\n"),
            "s.yaml:3:6: zip: expected a list of {key: value, ...}, got a mapping");
  EXPECT_EQ(Report(head + "zip: [{run.seed: 1}, {optimizer.lr: 1}]\n"),
            "s.yaml:3:22: zip[1]: has other keys than the first row; give each row the same");
  EXPECT_EQ(Report(head + "axes: {run.seed: [1]}\nzip: [{run.seed: 2}]\n"),
            "s.yaml:1:1: document: cell 'run.seed=1,run.seed=2' gives run.seed twice; keep it in axes or in its row");
  EXPECT_EQ(Report(head + "axes: {run.seed: [1, 1]}\n"),
            "s.yaml:1:1: document: two cells are called 'seed=1'; remove one of them");
  EXPECT_EQ(Report(head + "variants: {a/b: {run.seed: 1}}\n"),
            "s.yaml:3:12: variants.a/b: a label has letters, digits, '_' and '-' only");
  EXPECT_EQ(Report(head + "variants: {a: 3}\n"),
            "s.yaml:3:15: variants.a: expected a mapping of keys to values, got '3'");
  EXPECT_EQ(Report(head + "axes: {run.seed: [1]}\nmean_over: [optimizer.lr]\n"),
            "s.yaml:1:1: mean_over: 'optimizer.lr' is no key of axes; means are taken over an axis");
  EXPECT_EQ(Report(head + "axes: {run.seed: [1]}\nmean_over: run.seed\n"),
            "s.yaml:4:12: mean_over: expected a list of keys, got 'run.seed'");
  EXPECT_EQ(Report(head + "kv_length: 0\nzip: [{run.seed: 1}]\n"), "s.yaml:3:12: kv_length: must be at least 1, got 0");
  EXPECT_TRUE(Report("- a\n").starts_with("s.yaml:1:1: document: expected a mapping of name, dir, base"));
}

TEST_F(SweepTest, SelectSaysWhichCellsAreChosenAmong) {
  const std::string measured = "data.validation=[{path: books}]";
  const std::vector<std::string> sets = {measured, "evaluation.interval=5"};
  const Sweep sweep = Load(
      "name: s\nbase: base.yaml\naxes: {run.seed: [1, 2], optimizer.lr: [1e-3, 2e-3]}\n"
      "zip: [{model.attention.ksa.chunk_size: 4, schedule.warmup_steps: 1},"
      " {model.attention.ksa.chunk_size: 4, schedule.warmup_steps: 2}]\n"
      "variants: {full: {model.attention.pattern: [full]}}\nmean_over: [run.seed]\n"
      "select: {over: [optimizer.lr, schedule.warmup_steps], by: validation_loss/books, seed: 2}\n",
      sets);
  ASSERT_TRUE(sweep.select);
  EXPECT_EQ(sweep.select->Name(), "books");
  EXPECT_TRUE(sweep.select->IsLoss());
  ASSERT_EQ(sweep.cells.size(), 12U);
  EXPECT_EQ(sweep.cells[1].label, "seed=1,lr=1e-3,chunk_size=4,warmup_steps=2");
  EXPECT_EQ(sweep.cells[1].family, "chunk_size=4") << "keys of rows can be chosen among, too";
  EXPECT_EQ(sweep.cells[1].choice, "lr=1e-3,warmup_steps=2");
  EXPECT_EQ(sweep.cells[1].axes, "seed=1") << "what is compared differs in the rate";
  EXPECT_EQ(sweep.cells[1].group, "lr=1e-3,chunk_size=4,warmup_steps=2");
  EXPECT_EQ(sweep.cells[2].family, "full");
  EXPECT_EQ(sweep.cells[2].choice, "lr=1e-3");
  EXPECT_FALSE(sweep.cells[0].judged);
  EXPECT_TRUE(sweep.cells[6].judged);
  EXPECT_TRUE(Load("name: s\nbase: base.yaml\naxes: {run.seed: [1]}\n").cells[0].judged);
  // `--set` may take away what the choice is made by.
  EXPECT_THROW(static_cast<void>(Load("name: s\nbase: base.yaml\naxes: {optimizer.lr: [1, 2]}\n"
                                      "select: {over: [optimizer.lr], by: validation_loss}\n",
                                      {measured})),
               Error)
      << "no evaluation.interval";
}

TEST_F(SweepTest, SelectByATask) {
  const std::string head =
      "name: s\nbase: base.yaml\naxes: {optimizer.lr: [1e-3, 2e-3]}\nselect: {over: [optimizer.lr], by: ";
  const std::vector<std::string> measured = {
      "evaluation.interval=2",
      "evaluation.tasks=[{task: needle, samples: 8}, {task: copy, span: 16, name: far, samples: 8}]"};
  EXPECT_EQ(Load(head + "task_accuracy/needle}\n", measured).cells.size(), 2U) << "without a name, its task";
  EXPECT_EQ(Load(head + "task_accuracy/far}\n", measured).cells.size(), 2U);
  EXPECT_THROW(static_cast<void>(Load(head + "task_accuracy/copy}\n", measured)), Error) << "it is called far";
}

TEST_F(SweepTest, MistakesOfSelect) {
  const std::string head = "name: s\nbase: base.yaml\naxes: {run.seed: [1, 2], optimizer.lr: [1e-3]}\n";
  const std::string lr = "select: {over: [optimizer.lr], ";
  EXPECT_EQ(Report(head + "select: {}\n"),
            "s.yaml:4:9: select.over: missing; the keys among whose values the best is kept: [optimizer.lr]\n"
            "s.yaml:4:9: select.by: expected validation_loss, validation_loss/NAME or task_accuracy/NAME, got ''");
  EXPECT_EQ(Report(head + "select: {over: [optimizer.eps], by: validation_loss}\n"),
            "s.yaml:4:9: select.over: 'optimizer.eps' is no key of axes or zip; what does not vary cannot be chosen");
  EXPECT_EQ(Report(head + "mean_over: [optimizer.lr]\n" + lr + "by: validation_loss}\n"),
            "s.yaml:5:9: select.over: 'optimizer.lr' is in mean_over as well; take it out of one");
  EXPECT_EQ(Report(head + lr + "by: loss}\n"),
            "s.yaml:4:9: select.by: expected validation_loss, validation_loss/NAME or task_accuracy/NAME, got 'loss'");
  EXPECT_EQ(Report(head + lr + "by: task_accuracy/}\n"),
            "s.yaml:4:9: select.by: expected validation_loss, validation_loss/NAME or task_accuracy/NAME, got "
            "'task_accuracy/'");
  EXPECT_EQ(Report(head + lr + "by: validation_loss, seed: 1}\n"),
            "s.yaml:4:9: select.seed: needs run.seed in mean_over: the other seeds run for the value that is chosen");
  EXPECT_EQ(Report(head + "mean_over: [run.seed]\n" + lr + "by: validation_loss, seed: 3}\n"),
            "s.yaml:5:9: select.seed: 3 is none of the values of axes.run.seed");
  EXPECT_EQ(Report(head + lr + "by: validation_loss, sed: 3}\n"),
            "s.yaml:4:53: select.sed: unknown key; did you mean 'seed'?");
  // The base has no validation data.
  EXPECT_EQ(
      Report(head + lr + "by: validation_loss/books}\n"),
      "every cell: s.yaml: select.by: validation_loss/books is not measured; it needs evaluation.interval > 0 and "
      "the source 'books' in data.validation");
  EXPECT_EQ(Report(head + lr + "by: task_accuracy/recall}\n"),
            "every cell: s.yaml: select.by: task_accuracy/recall is not measured; it needs evaluation.interval > 0 and "
            "the task 'recall' in evaluation.tasks");
}

TEST_F(SweepTest, MistakesOfCells) {
  EXPECT_EQ(
      Report("name: s\nbase: base.yaml\naxes: {model.attention.ksa.chunk_size: [4, 0]}\n"
             "variants: {odd: {model.head_dim: 7}}\n"),
      "every cell: --set 'model.head_dim=7': model.head_dim: must be even (RoPE turns pairs), got 7\n"
      "cell chunk_size=0,odd: --set 'model.attention.ksa.chunk_size=0': model.attention.ksa.chunk_size: must be at "
      "least 1, got 0");
  // A mistake of the base is told once.
  static_cast<void>(folder_.Write("bad.yaml", std::string(testing::kBase) + "logging: {interval: 0}\n"));
  EXPECT_EQ(Report("name: s\nbase: bad.yaml\naxes: {run.seed: [1, 2, 3]}\n"),
            "every cell: bad.yaml:6:21: logging.interval: must be at least 1, got 0");
}

}  // namespace
}  // namespace ksa
