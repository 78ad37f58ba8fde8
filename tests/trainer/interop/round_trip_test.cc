// Out and in again: weights equal in bits, folders equal in bytes; and what new parameters are.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include <nlohmann/json.hpp>

#include "kernels/core/host_allocator.h"
#include "kernels/core/philox.h"
#include "model/ksa/parameters.h"
#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/checkpoint_source.h"
#include "trainer/config/load.h"
#include "trainer/evaluate/compare_tensors.h"
#include "trainer/interop/adapt.h"
#include "trainer/interop/composed_source.h"
#include "trainer/interop/export_hf.h"
#include "trainer/interop/import_hf.h"
#include "trainer/interop/load_weights.h"

namespace ksa::testing {
namespace {

std::string ConfigText(const std::string& attention, const std::string& more = "") {
  return "run: {name: t}\nmodel: {vocab_size: 61, hidden_size: 24, intermediate_size: 40, num_hidden_layers: 3, "
         "num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, " +
         more + " attention: {" + attention +
         "}}\ndata: {train: [{path: x}]}\ntraining: {sequence_length: 32, global_batch_size: 1, max_steps: 9, "
         "precision: fp32}\noptimizer: {lr: 1e-3}\n";
}

// A checkpoint of a model with initial weights.
std::string SaveModel(const ScratchFolder& scratch, const std::string& config, const std::string& name, int64_t step) {
  const Config parsed = ParseConfig(config, "test").config;
  HostAllocator allocator;
  ParameterStore store(ParameterSpecs(parsed.model), DType::kF32, allocator);
  store.Initialize(7, Stream{});
  CheckpointMeta meta = MetaOf(step);
  meta.configuration = RenderConfig(parsed);
  const auto self = MakeSelfCommunicator();
  return SaveCheckpoint(store, *self, meta, {scratch / name, 10, {}});
}

constexpr const char* kFullPattern = "pattern: [full]";
constexpr const char* kKsaPattern =
    "pattern: [ksa], ksa: {chunk_size: 4, summary_tokens: 2, window_chunks: 1, independent: {norm: true, qk_norm: "
    "true}}";

struct Case {
  HfLayout layout;
  const char* attention;
  const char* more;
};

class RoundTripOut : public ::testing::TestWithParam<Case> {};

TEST_P(RoundTripOut, WeightsComeBackInBits) {
  const ScratchFolder scratch;
  const auto [layout, attention, more] = GetParam();
  const Checkpoint checkpoint = OpenCheckpoint(SaveModel(scratch, ConfigText(attention, more), "run", 5));
  ExportOptions options{.layout = layout, .weights = {.type = StoredType::kF32, .shard_bytes = 20000}};
  const ExportReport report = ExportHf(checkpoint, scratch / "out", options);
  EXPECT_GT(report.files, 1U);
  const ImportReport imported = ImportHf(scratch / "out", scratch / "back", std::nullopt);
  EXPECT_EQ(imported.layout, layout);
  EXPECT_TRUE(imported.made.empty());
  EXPECT_TRUE(imported.unused.empty());
  const Checkpoint back = OpenCheckpoint(scratch / "back");
  EXPECT_TRUE(VerifyCheckpoint(back).empty());
  WeightsOfCheckpoint a(checkpoint);
  WeightsOfCheckpoint b(back);
  EXPECT_TRUE(CompareSources(a, b).empty());
  const ModelConfig before = ParseConfig(checkpoint.manifest.meta.configuration, "a").config.model;
  const ModelConfig after = ParseConfig(back.manifest.meta.configuration, "b").config.model;
  EXPECT_EQ(before.ksa.independent, after.ksa.independent);
  if (layout != HfLayout::kReleased) {
    EXPECT_EQ(before, after);
  }
  // Equal weights, equal bytes.
  ExportHf(checkpoint, scratch / "again", options);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(scratch / "out")) {
    const std::string name = entry.path().filename().string();
    EXPECT_EQ(Slurp(entry.path().string()), Slurp(scratch / ("again/" + name))) << name;
    ++files;
  }
  EXPECT_GE(files, 5);
}

INSTANTIATE_TEST_SUITE_P(
    Layouts,
    RoundTripOut,
    ::testing::Values(
        Case{HfLayout::kOwn, kKsaPattern, ""},
        Case{HfLayout::kOwn, "pattern: [ksa, full], ksa: {independent: {embedding: false, qkv: false}}", ""},
        Case{HfLayout::kOwn, kKsaPattern, "tie_word_embeddings: true, qk_norm: false,"},
        Case{HfLayout::kOwn, "pattern: [swa, sca, full], swa: {window: 5}, sca: {chunk_size: 4, window_chunks: 1}", ""},
        Case{HfLayout::kQwen3, kFullPattern, ""},
        Case{HfLayout::kQwen3, "pattern: [full, swa], swa: {window: 5}", "tie_word_embeddings: true,"},
        Case{HfLayout::kReleased, "pattern: [ksa, full], ksa: {summary_tokens: 3, independent: {norm: true}}", ""},
        Case{HfLayout::kReleased, "pattern: [ksa]", "tie_word_embeddings: true,"},
        Case{HfLayout::kReleased, "pattern: [ksa], ksa: {independent: {embedding: false, qkv: false}}", ""}));

TEST(ExportHf, RefusesWhatTheLayoutCannotSayAndTakenFolders) {
  const ScratchFolder scratch;
  const Checkpoint checkpoint = OpenCheckpoint(SaveModel(scratch, ConfigText(kKsaPattern), "run", 1));
  const Error error = ErrorOf([&] { ExportHf(checkpoint, scratch / "out", {.layout = HfLayout::kQwen3}); });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
  EXPECT_NE(std::string(error.what()).find("model.attention.pattern"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(scratch / "out"));
  std::filesystem::create_directory(scratch / "out");
  Spill(scratch / "out/mine", "x");
  EXPECT_EQ(ErrorOf([&] { ExportHf(checkpoint, scratch / "out", {}); }).code(), ExitCode::kCannotCreate);
  EXPECT_EQ(Slurp(scratch / "out/mine"), "x");
}

TEST(ExportHf, RoundsToBf16AsItSays) {
  const ScratchFolder scratch;
  const Checkpoint checkpoint = OpenCheckpoint(SaveModel(scratch, ConfigText(kFullPattern), "run", 1));
  const ExportReport report = ExportHf(checkpoint, scratch / "out", {});
  EXPECT_NE(report.notes.back().find("rounded from fp32 to BF16"), std::string::npos);
  WeightsOfCheckpoint exact(checkpoint);
  SafetensorsSource rounded(scratch / "out");
  HostAllocator allocator;
  for (const TensorInfo& tensor : exact.tensors()) {
    const Tensor a = Tensor::Empty({tensor.size()}, DType::kF32, allocator);
    const Tensor b = Tensor::Empty({tensor.size()}, DType::kF32, allocator);
    exact.Read(tensor, WholeOf(tensor), a);
    rounded.Read(*rounded.Find(tensor.name), WholeOf(tensor), b);
    for (int64_t i = 0; i < tensor.size(); ++i) {
      ASSERT_EQ(b.As<float>()[i], static_cast<float>(BFloat16(a.As<float>()[i]))) << tensor.name;
    }
  }
}

std::vector<float> Read(TensorSource& source, const std::string& name, const FlatRange& range = {0, -1}) {
  const TensorInfo* tensor = source.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  const FlatRange wanted = range.end < 0 ? FlatRange{0, tensor->size()} : range;
  HostAllocator allocator;
  const Tensor out = Tensor::Empty({wanted.size()}, DType::kF32, allocator);
  ReadAs(source, *tensor, RangeOf(*tensor, wanted), out);
  return {out.As<float>(), out.As<float>() + out.size()};
}

class AdaptTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::shared_ptr<TensorSource> Base(const std::string& config = ConfigText(kFullPattern)) const {
    return std::make_shared<WeightsOfCheckpoint>(OpenCheckpoint(SaveModel(scratch_, config, "base", 1)));
  }

  [[nodiscard]] static std::vector<ParameterSpec> Specs(const std::string& attention, const std::string& more = "") {
    return ParameterSpecs(ParseConfig(ConfigText(attention, more), "test").config.model);
  }

  ScratchFolder scratch_;
};

TEST_F(AdaptTest, CopiesTheBaseAndStartsSummariesAroundTheMean) {
  const auto base = Base();
  const Adapted adapted = AdaptTo(Specs(kKsaPattern), base, {});
  EXPECT_TRUE(adapted.unused.empty());
  EXPECT_EQ(adapted.made.size(), 1U + 3U * 6U);  // the embedding; q, k, v and three norms of three layers
  for (const char* part : {"self_attn.q_proj", "self_attn.k_norm", "input_layernorm"}) {
    const std::string name = std::string("model.layers.2.") + part;
    EXPECT_EQ(Read(*adapted.source, name + "_summary.weight"), Read(*base, name + ".weight"));
  }
  const std::vector<float> table = Read(*base, "model.embed_tokens.weight");
  const std::vector<float> summaries = Read(*adapted.source, "summary_embedding.weight");
  ASSERT_EQ(summaries.size(), 48U);
  const uint64_t key = NamedKey(1234, "summary_embedding.weight");
  for (size_t i = 0; i < summaries.size(); ++i) {
    double mean = 0;
    for (size_t row = 0; row < 61; ++row) {
      mean += static_cast<double>(table[row * 24 + i % 24]) / 61;
    }
    EXPECT_NEAR(static_cast<double>(summaries[i]), mean + NormalAt(key, i) * 0.02, 1e-8);
  }
}

TEST_F(AdaptTest, InitGivesInitialValues) {
  const auto base = Base();
  const Adapted adapted = AdaptTo(Specs(kKsaPattern), base, {.new_parameters = NewParameters::kInit, .seed = 5});
  HostAllocator allocator;
  ParameterStore fresh(Specs(kKsaPattern), DType::kF32, allocator);
  fresh.Initialize(5, Stream{});
  for (const char* name : {"summary_embedding.weight",
                           "model.layers.1.self_attn.v_proj_summary.weight",
                           "model.layers.1.self_attn.q_norm_summary.weight"}) {
    const TensorView value = fresh.Get(name).value;
    EXPECT_EQ(Read(*adapted.source, name), std::vector<float>(value.As<float>(), value.As<float>() + value.size()));
  }
}

TEST_F(AdaptTest, VocabularyGetsRowsForSummaries) {
  const auto base = Base();
  const Adapted adapted =
      AdaptTo(Specs("pattern: [ksa], ksa: {summary_tokens: 3, independent: {embedding: false}}"), base, {});
  const std::vector<float> table = Read(*adapted.source, "model.embed_tokens.weight");
  const std::vector<float> old = Read(*base, "model.embed_tokens.weight");
  ASSERT_EQ(table.size(), 64U * 24U);
  EXPECT_TRUE(std::equal(old.begin(), old.end(), table.begin()));
  // A range across the seam is the same as the whole.
  const std::vector<float> seam = Read(*adapted.source, "model.embed_tokens.weight", {60 * 24 + 5, 62 * 24 + 1});
  EXPECT_TRUE(std::equal(seam.begin(), seam.end(), table.begin() + 60 * 24 + 5));
}

TEST_F(AdaptTest, RefusesWhatNobodyCanMake) {
  const Error error = ErrorOf([&] {
    static_cast<void>(
        AdaptTo(Specs("pattern: [ksa]", "qk_norm: true,"), Base(ConfigText(kFullPattern, "qk_norm: false,")), {}));
  });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
  EXPECT_NE(std::string(error.what()).find("model.layers.0.self_attn.q_norm.weight: not there"), std::string::npos);
  const Adapted tied = AdaptTo(Specs(kFullPattern), Base(ConfigText(kFullPattern, "tie_word_embeddings: true,")), {});
  EXPECT_EQ(Read(*tied.source, "lm_head.weight"), Read(*tied.source, "model.embed_tokens.weight"));
  const Adapted back = AdaptTo(Specs(kFullPattern), Base(ConfigText(kKsaPattern)), {});
  EXPECT_EQ(back.unused.size(), 1U + 3U * 6U);
}

// Every rank of a tensor-parallel group reads its own boxes of a folder.
TEST_F(AdaptTest, TensorRanksGetTheirShards) {
  const std::string config = ConfigText(kFullPattern);
  const Checkpoint checkpoint = OpenCheckpoint(SaveModel(scratch_, config, "run", 1));
  ExportHf(checkpoint, scratch_ / "hf", {.layout = HfLayout::kQwen3, .weights = {.type = StoredType::kF32}});
  const ModelConfig model =
      ParseConfig(ConfigText(kKsaPattern, "max_position_embeddings: 64, rope_theta: 5e5,"), "t").config.model;
  HostAllocator allocator;
  ParameterStore whole(ParameterSpecs(model), DType::kF32, allocator);
  const std::vector<std::string> lines = LoadFromFolder(whole, model, scratch_ / "hf", {}, Stream{});
  EXPECT_NE(lines.front().find("model.rope_theta: 10000 in the folder, 500000 in the configuration"),
            std::string::npos);
  for (int rank = 0; rank < 2; ++rank) {
    ParameterStore part(ParameterSpecs(model, 2), DType::kF32, allocator, {.tensor_parts = 2, .tensor_rank = rank});
    LoadFromFolder(part, model, scratch_ / "hf", {}, Stream{});
    for (const Parameter& parameter : part.parameters()) {
      const TensorView all = whole.Get(parameter.spec.name).value;
      const HeldRuns held = HeldRunsOf(parameter);
      for (int64_t i = 0; i < parameter.value.size(); ++i) {
        ASSERT_EQ(parameter.value.As<float>()[i], all.As<float>()[held.InWhole(i)]) << parameter.spec.name;
      }
    }
  }
}

TEST_F(AdaptTest, FoldersOfAnotherShapeAreRefusedByField) {
  const Checkpoint checkpoint = OpenCheckpoint(SaveModel(scratch_, ConfigText(kFullPattern), "run", 1));
  ExportHf(checkpoint, scratch_ / "hf", {.layout = HfLayout::kQwen3, .weights = {.type = StoredType::kF32}});
  // The same shapes of tensors, and another model.
  Spill(scratch_ / "model.yaml",
        "model: {vocab_size: 61, hidden_size: 24, intermediate_size: 40, num_hidden_layers: 3, num_attention_heads: 2, "
        "num_key_value_heads: 1, head_dim: 16, rms_norm_eps: 1e-5, attention: {pattern: [full]}}");
  const Error error = ErrorOf([&] { ImportHf(scratch_ / "hf", scratch_ / "out", scratch_ / "model.yaml"); });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
  for (const char* key : {"num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps"}) {
    EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
  }
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "out"));
}

TEST_F(AdaptTest, AverageIsTheMean) {
  const Checkpoint a = OpenCheckpoint(SaveModel(scratch_, ConfigText(kFullPattern), "a", 1));
  const auto source = [&](const Checkpoint& checkpoint) { return std::make_unique<WeightsOfCheckpoint>(checkpoint); };
  std::vector<std::unique_ptr<TensorSource>> same;
  same.push_back(source(a));
  same.push_back(source(a));
  same.push_back(source(a));
  AverageSource average(std::move(same));
  EXPECT_EQ(Read(average, "lm_head.weight"), Read(*source(a), "lm_head.weight"));
  std::vector<std::unique_ptr<TensorSource>> others;
  others.push_back(source(a));
  others.push_back(source(OpenCheckpoint(SaveModel(scratch_, ConfigText(kKsaPattern), "b", 1))));
  const Error error = ErrorOf([&] { const AverageSource bad(std::move(others)); });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
  EXPECT_NE(std::string(error.what()).find("summary_embedding.weight: only in"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace ksa::testing
