// Every file under configs/ loads, and the models that are named after their size have it.
#include <algorithm>
#include <set>
#include <tuple>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "model/ksa/cost.h"
#include "model/mixers/ksa/ksa.h"
#include "tests/trainer/config/support.h"
#include "trainer/config/sweep.h"

namespace ksa {
namespace {

std::vector<std::string> FilesUnder(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Of one layer and of the rest: what docs/ksa.md says a model holds.
int64_t Parameters(const ModelConfig& model) {
  const int64_t d = model.hidden_size;
  const int64_t q = int64_t{1} * model.num_attention_heads * model.head_dim;
  const int64_t kv = int64_t{1} * model.num_key_value_heads * model.head_dim;
  const int64_t own = model.ksa.independent.qkv ? d * (q + 2 * kv) : 0;
  const int64_t layer = d * (q + 2 * kv) + q * d + own + 3 * d * model.intermediate_size + 2 * d + 2 * model.head_dim;
  return model.num_hidden_layers * layer + (model.tie_word_embeddings ? 1 : 2) * int64_t{model.vocab_size} * d + d +
         model.ksa.summary_tokens * d;
}

TEST(ShippedConfigs, NothingElseLiesThere) {
  const std::set<std::string> folders = {"model", "data", "train", "test", "ablate", "recall"};
  for (const std::string& file : FilesUnder("configs")) {
    const std::filesystem::path path(file);
    EXPECT_EQ(path.extension(), ".yaml") << file;
    EXPECT_EQ(folders.count(path.parent_path().filename().string()), 1U) << file;
  }
}

TEST(ShippedConfigs, RunsLoadWithoutWarnings) {
  int count = 0;
  for (const char* folder : {"configs/train", "configs/test"}) {
    for (const std::string& file : FilesUnder(folder)) {
      const LoadedConfig loaded = LoadConfig(file);
      EXPECT_TRUE(loaded.warnings.empty()) << file << ": " << loaded.warnings[0];
      EXPECT_EQ(ParseConfig(RenderConfig(loaded.config), file).config, loaded.config) << file;
      const std::string stem = std::filesystem::path(file).stem().string();
      EXPECT_EQ(loaded.config.run.name, (std::string(folder) == "configs/test" ? "test_" : "") + stem) << file;
      ++count;
    }
  }
  EXPECT_GE(count, 28);
}

TEST(ShippedConfigs, ModelsLoadAlone) {
  for (const std::string& file : FilesUnder("configs/model")) {
    EXPECT_EQ(LoadModelConfig(file, 8192).max_position_embeddings, 8192) << file;
  }
  const ModelConfig smallest = LoadModelConfig("configs/model/ksa_1m5.yaml", 1024);
  EXPECT_NEAR(static_cast<double>(Parameters(smallest)), 1.525e6, 0.005e6);
  const ModelConfig small = LoadModelConfig("configs/model/ksa_4m.yaml", 256);
  EXPECT_NEAR(static_cast<double>(Parameters(small)), 4.1e6, 0.1e6);
  const ModelConfig middle = LoadModelConfig("configs/model/ksa_36m.yaml", 1024);
  EXPECT_NEAR(static_cast<double>(Parameters(middle)), 36e6, 0.5e6);
  const ModelConfig large = LoadModelConfig("configs/model/ksa_1b9.yaml", 8192);
  EXPECT_NEAR(static_cast<double>(Parameters(large)), 2.233e9, 0.005e9);
  EXPECT_EQ(large.layers[2], KsaLayer(128));
  EXPECT_EQ(large.layers[3], KsaLayer(1024));
  EXPECT_EQ(large.layers[23], KsaLayer(1024));
}

TEST(ShippedConfigs, DataFragmentsLoad) {
  const testing::TemporaryFolder folder;
  const std::string base = folder.Write("base.yaml", testing::kBase);
  for (const std::string& file : FilesUnder("configs/data")) {
    const std::string run =
        folder.Write("run.yaml", "include: [" + base + ", " + std::filesystem::absolute(file).string() + "]\n");
    const LoadedConfig loaded = LoadConfig(run);
    EXPECT_NE(loaded.config.data.train[0].path, "data/a/train") << file;
  }
}

TEST(ShippedConfigs, SweepsOverKHoldTheTextWindow) {
  for (const std::string& file : FilesUnder("configs/ablate")) {
    if (file.find("/recall/") != std::string::npos) {
      continue;  // short sequences: the next test
    }
    const Sweep sweep = LoadSweep(file);
    EXPECT_EQ(sweep.name, std::filesystem::path(file).stem().string());
    EXPECT_EQ(sweep.kv_length, 131072);
    std::set<int64_t> windows;
    std::set<int32_t> chunks;
    int full = 0;
    for (const SweepCell& cell : sweep.cells) {
      const ModelConfig& model = cell.config.model;
      if (model.HasSummaryRows()) {
        windows.insert(int64_t{model.MinKsaWindow()} * model.ksa.chunk_size);
        chunks.insert(model.ksa.chunk_size);
      }
      full += cell.label == "full" || cell.label.find(",full") != std::string::npos ? 1 : 0;
    }
    const bool small = sweep.cells[0].config.training.sequence_length == 1024;
    EXPECT_EQ(windows, std::set<int64_t>{small ? 32 : 1024}) << file;
    EXPECT_EQ(full, small ? 3 : 1) << file;
    if (sweep.name == "kinds") {
      EXPECT_EQ(chunks, std::set<int32_t>{8}) << file;
      continue;
    }
    EXPECT_EQ(chunks, small ? (std::set<int32_t>{4, 8, 16, 32}) : (std::set<int32_t>{4, 8, 16, 32, 64})) << file;
  }
}

TEST(ShippedConfigs, RecallSweepsHoldTheTextWindow) {
  for (const std::string& file : FilesUnder("configs/ablate/recall")) {
    const Sweep sweep = LoadSweep(file);
    EXPECT_EQ(sweep.name, std::filesystem::path(file).stem().string());
    std::set<int64_t> windows;
    for (const SweepCell& cell : sweep.cells) {
      const ModelConfig& model = cell.config.model;
      if (model.HasSummaryRows()) {
        windows.insert(int64_t{model.MinKsaWindow()} * model.ksa.chunk_size);
      }
      EXPECT_EQ(cell.config.evaluation.tasks.size(), 1U) << cell.label;
      EXPECT_EQ(cell.config.data.train[0].task.kind, cell.config.evaluation.tasks[0].task.kind) << cell.label;
    }
    // Well below the sequence, else no summary is seen.
    EXPECT_EQ(windows, std::set<int64_t>{sweep.cells[0].config.training.sequence_length / 8}) << file;
  }
}

// What one kind has and another lacks, a wider MLP makes up for: to what a GPU's products like, multiples of 8 columns.
TEST(ShippedConfigs, CellsOfSmallSweepsHaveEqualParameters) {
  for (const auto& [name, cells, within] : {std::tuple("chunk_size", 18U, 2e-4),
                                            {"kinds", 21U, 5e-3},
                                            {"recall/stream_chunk_size", 48U, 1e-3},
                                            {"recall/stream_kinds", 48U, 6e-3}}) {
    const Sweep sweep = LoadSweep(fmt::format("configs/ablate/{}.yaml", name));
    EXPECT_EQ(sweep.mean_over, std::vector<std::string>{"run.seed"});
    ASSERT_EQ(sweep.cells.size(), cells);
    const auto wanted = static_cast<double>(TotalParameters(sweep.cells[0].config.model));
    for (const SweepCell& cell : sweep.cells) {
      EXPECT_NEAR(static_cast<double>(TotalParameters(cell.config.model)), wanted, within * wanted) << cell.label;
    }
  }
}

}  // namespace
}  // namespace ksa
