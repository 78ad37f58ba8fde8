// The benchmarks at tiny sizes: that they run, and what machines read of them.
#include "trainer/commands/bench.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "trainer/commands/attention_paths.h"
#include "trainer/commands/bench_report.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

namespace ksa {
namespace {

namespace fs = std::filesystem;

class BenchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ("bench_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }

  void TearDown() override { fs::remove_all(folder_); }

  // What `ksa bench` with these words writes for machines.
  [[nodiscard]] nlohmann::json Run(std::vector<std::string> words) const {
    CLI::App app;
    AddBenchCommand(app);
    const std::string json = (folder_ / "out.json").string();
    words.insert(words.begin(), "bench");
    words.insert(words.end(), {"--json", json});
    std::vector<std::string> reversed(words.rbegin(), words.rend());  // as CLI11 takes them
#ifdef __SANITIZE_ADDRESS__
    const __lsan::ScopedDisabler mpi_keeps_memory;  // OpenMPI frees some of its own never, from code it unloads
#endif
    ::testing::internal::CaptureStdout();
    app.parse(reversed);
    printed_ = ::testing::internal::GetCapturedStdout();
    return nlohmann::json::parse(std::ifstream(json));
  }

  fs::path folder_;
  mutable std::string printed_;
};

TEST(BenchReport, Medians) {
  EXPECT_EQ(Median({3.0, 1.0, 2.0}), 2.0);
  EXPECT_EQ(Median({4.0, 1.0, 2.0, 3.0}), 2.5);
  EXPECT_THROW(static_cast<void>(Median({})), Error);
  int calls = 0;
  const Timing timing = Measure(4, Stream{}, [&calls] { ++calls; });
  EXPECT_EQ(calls, 5);
  EXPECT_LE(timing.least, timing.median);
}

TEST(BenchReport, TheCommandHasNoFolder) {
  EXPECT_TRUE(CommandLine().starts_with("trainer_test")) << CommandLine();
  EXPECT_FALSE(CpuName().empty());
}

TEST_F(BenchTest, Attention) {
  const nlohmann::json json = Run({"attention",
                                   "--text-tokens",
                                   "64",
                                   "100",
                                   "--full-causal",
                                   "100",
                                   "--chunk-size",
                                   "4",
                                   "--window-chunks",
                                   "3",
                                   "--summary-tokens",
                                   "2",
                                   "--heads",
                                   "4",
                                   "--kv-heads",
                                   "2",
                                   "--head-dim",
                                   "8",
                                   "--repeat",
                                   "1"});
  EXPECT_EQ(json["benchmark"], "attention");
  EXPECT_EQ(json["threads"], 1);
  ASSERT_EQ(json["rows"].size(), 3);
  const nlohmann::json& row = json["rows"][1];
  EXPECT_EQ(row["mask"], "ksa");
  EXPECT_EQ(row["text_tokens"], 100);
  // 25 chunks: text 10 + 26 + 42 + 22 · 58, summaries 4 · 2 · (1 + ... + 21), live summaries 21 · (2 · 4 + 3).
  const double pairs = 10 + 26 + 42 + 22 * 58 + 4 * 2 * 231 + 21 * 11;
  EXPECT_DOUBLE_EQ(row["keys_a_query"], pairs / 100);
  EXPECT_DOUBLE_EQ(json["rows"][2]["keys_a_query"], 50.5);
  const double milliseconds = row["milliseconds"];
  EXPECT_GT(milliseconds, 0.0);
  EXPECT_NEAR(row["nanoseconds_a_pair"].get<double>() * pairs * 4, milliseconds * 1e6, 1.0);
  EXPECT_NEAR(row["useful_tflops"].get<double>() * milliseconds * 1e9, 14.0 * 8 * 4 * pairs, 1.0);
  EXPECT_DOUBLE_EQ(json["findings"]["pairs_ratio_100"], 5050 / pairs);
  EXPECT_GT(json["findings"]["pair_time_ratio"], 0.0);
  EXPECT_NE(printed_.find("full causal"), std::string::npos);
}

TEST_F(BenchTest, AttentionOfEntriesAndNarrowValues) {
  std::vector<std::string> words = {"attention"};
  for (const auto& [option, value] : {std::pair("--text-tokens", "100"),
                                      std::pair("--hca", "100"),
                                      std::pair("--full-causal", "0"),
                                      std::pair("--chunk-size", "4"),
                                      std::pair("--window-chunks", "3"),
                                      std::pair("--summary-tokens", "2"),
                                      std::pair("--heads", "4"),
                                      std::pair("--head-dim", "8"),
                                      std::pair("--value-dim", "6"),
                                      std::pair("--repeat", "1")}) {
    words.insert(words.end(), {option, value});
  }
  const nlohmann::json json = Run(words);
  ASSERT_EQ(json["rows"].size(), 2);
  const nlohmann::json& row = json["rows"][1];
  EXPECT_EQ(row["mask"], "hca");
  const double pairs = 10 + 26 + 42 + 22 * 58 + 4 * 231;  // one entry a chunk, and nobody but text asks
  EXPECT_DOUBLE_EQ(row["keys_a_query"], pairs / 100);
  const double milliseconds = row["milliseconds"];
  EXPECT_NEAR(row["useful_tflops"].get<double>() * milliseconds * 1e9, (2 * (8 + 6) + 2 * (24 + 12)) * 4 * pairs, 1.0);
  EXPECT_GT(json["findings"]["hca_time_ratio_100"], 0.0);
}

TEST(AttentionPaths, TensorCoresOfHopperByDefaultWhereTheyCanDoTheCall) {
  const GpuInfo hopper = {.major = 9};
  const GpuInfo ampere = {.major = 8};
  const std::vector<AttentionPath> automatic = {AttentionPath::kAuto};
  for (const int32_t head_dim : {64, 128}) {
    const AttentionPaths paths = DefaultAttentionPaths(hopper, DType::kBF16, {head_dim, head_dim});
    EXPECT_EQ(paths.ksa, (std::vector{AttentionPath::kMma, AttentionPath::kWgmma}));
    EXPECT_EQ(paths.full.front(), AttentionPath::kAuto);
    EXPECT_EQ(paths.full.size(), AttentionPathIsBuilt(AttentionPath::kCudnn) ? 2 : 1);
  }
  EXPECT_EQ(DefaultAttentionPaths(hopper, DType::kBF16, {192, 128}).ksa,
            (std::vector{AttentionPath::kMma, AttentionPath::kWgmma}));
  for (const AttentionPaths& paths : {DefaultAttentionPaths(std::nullopt, DType::kBF16, {128, 128}),
                                      DefaultAttentionPaths(ampere, DType::kBF16, {128, 128}),
                                      DefaultAttentionPaths(hopper, DType::kF32, {128, 128}),
                                      DefaultAttentionPaths(hopper, DType::kBF16, {96, 96})}) {
    EXPECT_EQ(paths.ksa, automatic);
    EXPECT_EQ(paths.full, automatic);
  }
}

TEST(Bench, HeadsAreAMultipleOfKvHeads) {
  CLI::App app;
  AddBenchCommand(app);
  EXPECT_THROW(app.parse(std::vector<std::string>{"2", "--kv-heads", "3", "--heads", "attention", "bench"}), Error);
}

TEST_F(BenchTest, Step) {
  const std::string model = (folder_ / "model.yaml").string();
  std::ofstream(model)
      << "model: {vocab_size: 60, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2, "
         "num_attention_heads: 2, attention: {pattern: [ksa], ksa: {chunk_size: 4, window_chunks: 2}}}";
  const nlohmann::json json = Run({"step",
                                   "--model",
                                   model,
                                   "--sequence-length",
                                   "30",
                                   "--micro-batch-size",
                                   "2",
                                   "--device",
                                   "cpu",
                                   "--threads",
                                   "2",
                                   "--steps",
                                   "2",
                                   "--with-full"});
  EXPECT_EQ(json["device"], CpuName());
  EXPECT_EQ(json["threads"], 2);
  ASSERT_EQ(json["rows"].size(), 2);
  const nlohmann::json& row = json["rows"][0];
  EXPECT_NEAR(row["first_loss"].get<double>(), std::log(60.0), 0.1);
  EXPECT_NEAR(row["tokens_per_second"].get<double>() * row["milliseconds"].get<double>(), 60 * 1e3, 1e-6);
  EXPECT_EQ(json["rows"][1]["keys_a_query"], 15.5);
  EXPECT_LT(row["keys_a_query"], 15.5);
  EXPECT_GT(row["parameters"], json["rows"][1]["parameters"]);
  EXPECT_GT(row["useful_tflops"], 0.0);
}

TEST_F(BenchTest, Data) {
  const std::string text = (folder_ / "text.txt").string();
  {
    std::ofstream file(text);
    for (int i = 0; i < 500; ++i) {
      file << "line " << i << " of a text\n";
    }
  }
  const nlohmann::json json = Run({"data", "--input", text, "--sequence-length", "16", "--seconds", "0.02"});
  ASSERT_EQ(json["rows"].size(), 3);
  EXPECT_EQ(json["rows"][0]["work"], "tokenize");
  EXPECT_GT(json["rows"][0]["megabytes_per_second"], 0.0);
  EXPECT_EQ(json["rows"][2]["work"], "load");
  EXPECT_GT(json["rows"][2]["samples_per_second"], 0.0);
  EXPECT_TRUE(json["findings"].empty());
}

}  // namespace
}  // namespace ksa
