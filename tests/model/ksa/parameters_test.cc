// Which parameters a model has, what is true of each, and their initial values. The names of the released
// implementation are held against the golden files by tests/golden.
#include "model/ksa/parameters.h"

#include <cmath>
#include <map>
#include <set>

#include "model/ksa/model.h"
#include "model/mixers/attention/attention_mixer.h"
#include "tests/model/ksa/model_cases.h"

namespace ksa {
namespace {

using testing::FindCase;
using testing::ModelCases;

std::map<std::string, ParameterSpec> SpecsByName(const ModelConfig& config) {
  std::map<std::string, ParameterSpec> specs;
  for (const ParameterSpec& spec : ParameterSpecs(config)) {
    EXPECT_TRUE(specs.emplace(spec.name, spec).second) << spec.name << " is there twice";
  }
  return specs;
}

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool Contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST(ParameterSpecsTest, SummaryParametersAreWhereSummariesAttend) {
  ModelConfig config = FindCase("hybrid, attend, everything own, m 2").config;  // full, ksa, swa, ksa
  for (const FullLayers full_layers : {FullLayers::kAttend, FullLayers::kBypass}) {
    config.ksa.full_layers = full_layers;
    const auto specs = SpecsByName(config);
    for (int32_t layer = 0; layer < 4; ++layer) {
      const bool own = full_layers == FullLayers::kAttend || layer == 1 || layer == 3;
      for (const char* name : {"input_layernorm_summary.weight",
                               "self_attn.q_proj_summary.weight",
                               "self_attn.k_proj_summary.weight",
                               "self_attn.v_proj_summary.weight",
                               "self_attn.q_norm_summary.weight",
                               "self_attn.k_norm_summary.weight"}) {
        EXPECT_EQ(specs.count(LayerPrefix(layer) + name), own ? 1U : 0U) << layer << " " << name;
      }
    }
  }
}

TEST(ParameterSpecsTest, ModelsWithoutKsaLayersHaveNoSummaryParameters) {
  for (const char* name : {"full", "swa", "sca", "swa, sca, full"}) {
    ModelConfig config = FindCase(name).config;
    config.ksa.independent = {.embedding = true, .qkv = true, .norm = true, .qk_norm = true};
    for (const auto& [parameter, spec] : SpecsByName(config)) {
      EXPECT_FALSE(Contains(parameter, "summary")) << name << ": " << parameter;
    }
    config.ksa.independent.embedding = false;
    EXPECT_EQ(SpecsByName(config).at("model.embed_tokens.weight").shape[0], config.vocab_size);
  }
}

TEST(ParameterSpecsTest, BlocksWithoutMlpHaveNoParametersOfOne) {
  ModelConfig config = FindCase("ksa").config;
  const size_t with = SpecsByName(config).size();
  config.intermediate_size = 0;
  const auto specs = SpecsByName(config);
  EXPECT_EQ(specs.size(), with - 4 * static_cast<size_t>(config.num_hidden_layers));
  for (const auto& [name, spec] : specs) {
    EXPECT_FALSE(Contains(name, "mlp") || Contains(name, "post_attention")) << name;
  }
}

TEST(ParameterSpecsTest, SharedSummaryEmbeddingsAreExtraRowsOfBothTables) {
  const auto untied = SpecsByName(FindCase("ksa, nothing own").config);
  EXPECT_EQ(untied.at("model.embed_tokens.weight").shape, Shape({13, 6}));
  EXPECT_EQ(untied.at("lm_head.weight").shape, Shape({13, 6}));
  EXPECT_EQ(untied.count("summary_embedding.weight"), 0U);
  const auto tied = SpecsByName(FindCase("ksa, nothing own, tied").config);
  EXPECT_EQ(tied.at("model.embed_tokens.weight").shape, Shape({13, 6}));
  EXPECT_EQ(tied.count("lm_head.weight"), 0U);
}

TEST(ParameterSpecsTest, DecayAndInitialValues) {
  for (const bool fan_in : {false, true}) {
    for (const testing::ModelCase& c : ModelCases()) {
      ModelConfig config = c.config;
      config.initializer_range = {.fan_in = fan_in, .std = 0.03};
      for (const auto& [name, spec] : SpecsByName(config)) {
        const bool is_norm = Contains(name, "norm");
        const bool is_embedding = Contains(name, "embed");
        const bool is_taps = Contains(name, "conv1d");
        const bool is_bias = Contains(name, "position_bias");
        const bool is_gate = Contains(name, "A_log") || Contains(name, "dt_bias");
        EXPECT_EQ(spec.shape.rank(), is_norm || is_gate ? 1 : is_taps ? 3 : 2) << name;
        EXPECT_EQ(spec.decays, !is_norm && !is_bias && !is_gate && name != "summary_embedding.weight") << name;
        if (is_gate) {
          ASSERT_NE(spec.initial, nullptr) << name;
          continue;  // below
        }
        if (is_taps && Contains(name, "linear_attn")) {
          EXPECT_EQ(spec.init_std, 1.0 / std::sqrt(static_cast<double>(spec.shape[2]))) << name;
          continue;
        }
        if (is_taps || is_bias) {
          ASSERT_NE(spec.initial, nullptr) << name;
          EXPECT_EQ(spec.initial(17, 3), 0.0) << name;
          continue;
        }
        EXPECT_EQ(spec.initial, nullptr) << name;
        const double wanted = fan_in ? 1.0 / std::sqrt(static_cast<double>(spec.shape[1])) : 0.03;
        EXPECT_EQ(spec.init_std, is_norm ? 0.0 : (fan_in && is_embedding ? 1.0 : wanted)) << name;
      }
    }
  }
}

// log(A) with A uniform in (0, 16], and the inverse of softplus of what is log-uniform in [0.001, 0.1]: by their ranges
// and their means over many elements.
TEST(ParameterSpecsTest, InitialGatesOfGdn) {
  const auto specs = SpecsByName(FindCase("gdn").config);
  const auto mean = [&](const char* name, const auto& value_of, double least, double most) {
    constexpr int kElements = 20000;
    double sum = 0.0;
    for (uint64_t i = 0; i < kElements; ++i) {
      const double value = value_of(specs.at(name).initial(17, i));
      EXPECT_GT(value, least) << name;
      EXPECT_LT(value, most) << name;
      sum += value;
    }
    return sum / kElements;
  };
  const auto exponential = [](double x) { return std::exp(x); };
  const auto log_softplus = [](double x) { return std::log(std::log1p(std::exp(x))); };
  // Four standard deviations of the means.
  EXPECT_NEAR(mean("model.layers.0.linear_attn.A_log", exponential, 0.0, 16.0 + 1e-9), 8.0, 0.14);
  EXPECT_NEAR(mean("model.layers.1.linear_attn.dt_bias", log_softplus, std::log(1e-3) - 1e-9, std::log(0.1) + 1e-9),
              std::log(1e-2),
              0.04);
}

TEST(ParameterSpecsTest, PlacementsOverTheTensorAxis) {
  for (const auto& [name, spec] : SpecsByName(FindCase("ksa, m 2, GQA, everything own").config)) {
    const bool rows = EndsWith(name, "o_proj.weight") || EndsWith(name, "down_proj.weight");
    const bool replicated = Contains(name, "norm") || name == "summary_embedding.weight";
    const Placement wanted = replicated ? Placement::Replicated() : Placement::Sharded(rows ? 1 : 0);
    EXPECT_EQ(spec.tensor, wanted) << name;
    EXPECT_EQ(spec.gradient_partial_over_tensor, Contains(name, "q_norm") || Contains(name, "k_norm")) << name;
  }
}

// 6 heads, 3 of keys and values: at 6 ranks two neighbours share one.
TEST(ParameterSpecsTest, SharedHeadsAndPartialGradients) {
  ModelConfig config = FindCase("ksa, m 2, GQA, everything own").config;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 3;
  for (const int ranks : {1, 3, 6}) {
    for (const bool parts : {false, true}) {
      for (const ParameterSpec& spec : ParameterSpecs(config, ranks, parts)) {
        const bool keys = Contains(spec.name, "k_proj") || Contains(spec.name, "v_proj");
        EXPECT_EQ(spec.replicas, keys && ranks == 6 ? 2 : 1) << spec.name;
        const bool of_heads = Contains(spec.name, "q_norm") || Contains(spec.name, "k_norm");
        const bool of_rows = Contains(spec.name, "norm") && !of_heads;
        EXPECT_EQ(spec.gradient_partial_over_tensor, of_heads || (of_rows && parts)) << spec.name;
      }
    }
  }
  EXPECT_THROW((void)ParameterSpecs(config, 2), Error) << "3 heads of keys for 2 ranks";
  EXPECT_THROW((void)ParameterSpecs(config, 4), Error) << "6 heads for 4 ranks";
  EXPECT_THROW((void)ParameterSpecs(config, 12), Error);
}

// Three ranks hold every element of every parameter once; whole heads, and neither columns nor ids divide.
TEST(ParameterSpecsTest, ShardsCoverEveryParameter) {
  ModelConfig config = FindCase("ksa, nothing own").config;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 3;
  testing::GuardAllocator allocator;
  std::map<std::string, int64_t> held;
  for (int rank = 0; rank < 3; ++rank) {
    const ParameterStore store(
        ParameterSpecs(config, 3, true), DType::kF32, allocator, {.tensor_parts = 3, .tensor_rank = rank});
    for (const Parameter& parameter : store.parameters()) {
      const bool sharded = parameter.spec.tensor != Placement::Replicated();
      EXPECT_TRUE(sharded || parameter.shape == parameter.spec.shape);
      EXPECT_TRUE(!Contains(parameter.spec.name, "_proj") || !Contains(parameter.spec.name, "self_attn") ||
                  parameter.shape[parameter.spec.tensor.dim] % config.head_dim == 0)
          << parameter.spec.name;
      held[parameter.spec.name] += sharded ? parameter.shape.size() : 0;
      if (rank == 2) {
        EXPECT_EQ(held[parameter.spec.name], sharded ? parameter.spec.shape.size() : 0) << parameter.spec.name;
      }
    }
  }
}

int32_t LayerOf(const std::string& name) {
  constexpr const char* kPrefix = "model.layers.";
  return name.starts_with(kPrefix) ? std::stoi(name.substr(std::string(kPrefix).size())) : -1;
}

// A parameter of a compressor where no text sees an entry, or where entries have one row, which no gate has to weigh.
bool IsIdleCompressor(const testing::ModelCase& c, const std::string& name) {
  if (!Contains(name, "compressor")) {
    return false;
  }
  const SummaryLayout layout = MakeLayout(c.config, 1, c.tokens);
  const Mixer& mixer = *c.config.layers[static_cast<size_t>(LayerOf(name))];
  const bool of_gate = Contains(name, "gate_proj") || Contains(name, "position_bias");
  return LiveChunks(layout, WindowOf(mixer)) == 0 || (of_gate && layout.chunk_size == 1);
}

TEST(ParameterSpecsTest, EveryParameterOfEveryCaseIsUsed) {
  // Those of dead parts are there, and nothing writes their gradient.
  const std::set<std::string> dead_while_annealed = {
      "q_proj_summary", "k_proj_summary", "v_proj_summary", "q_norm_summary", "k_norm_summary"};
  for (const testing::ModelCase& c : ModelCases()) {
    testing::ModelHarness harness(c, DType::kF64);
    const testing::Outcome outcome = harness.Run();
    const bool live = MakeLayout(c.config, 1, c.tokens).live_chunks > 0;
    for (size_t p = 0; p < outcome.gradients.size(); ++p) {
      const std::string& name = harness.store().parameters()[p].spec.name;
      double largest = 0.0;
      for (const double g : outcome.gradients[p]) {
        largest = std::max(largest, std::abs(g));
      }
      bool dead = Contains(name, "summary") && !live;
      for (const std::string& part : dead_while_annealed) {
        dead = dead || (c.mix == 0.0 && Contains(name, part.c_str()));
      }
      // In the last KSA layer the summaries' queries feed nothing, and behind it nothing of theirs does.
      const std::string layer = name.substr(0, name.find(".", sizeof("model.layers.") - 1));
      const bool in_layer = Contains(name, "model.layers.") && Contains(name, "summary");
      const int32_t number = in_layer ? std::stoi(layer.substr(layer.rfind('.') + 1)) : -1;
      dead = dead || IsIdleCompressor(c, name) || number > c.config.LastKsaLayer() ||
             (number == c.config.LastKsaLayer() && number >= 0 && Contains(name, "self_attn.q_"));
      EXPECT_EQ(largest == 0.0, dead) << c.name << ": " << name << " has a largest gradient of " << largest;
    }
  }
}

TEST(InitialWeightsTest, DependOnSeedNameAndElementAlone) {
  testing::GuardAllocator allocator;
  const ModelConfig small = FindCase("ksa").config;
  // Deeper, with other kinds and windows, tied, with more ids: what both models have starts alike.
  ModelConfig large = FindCase("hybrid, attend, everything own, m 2").config;
  large.vocab_size += 5;
  large.tie_word_embeddings = true;
  ParameterStore a(ParameterSpecs(small), DType::kF32, allocator);
  ParameterStore b(ParameterSpecs(large), DType::kF32, allocator);
  a.Initialize(1234, {});
  b.Initialize(1234, {.device = {}, .threads = 2});
  int common = 0;
  for (const Parameter& parameter : a.parameters()) {
    const Parameter* other = b.Find(parameter.spec.name);
    if (other != nullptr) {
      ++common;
      const int64_t rows = std::min(parameter.value.rows(), other->value.rows());
      testing::ExpectSameBits(parameter.value.Rows(0, rows), other->value.Rows(0, rows), parameter.spec.name);
    }
  }
  EXPECT_GT(common, 20);
  ParameterStore c(ParameterSpecs(small), DType::kF32, allocator);
  c.Initialize(1235, {});
  EXPECT_NE(testing::ToDouble(c.Get("lm_head.weight").value), testing::ToDouble(a.Get("lm_head.weight").value));
}

TEST(InitialWeightsTest, HaveTheirStandardDeviation) {
  testing::GuardAllocator allocator;
  ModelConfig config = FindCase("ksa").config;
  config.vocab_size = 500;
  config.hidden_size = 40;
  config.initializer_range = {.fan_in = false, .std = 0.02};
  ParameterStore store(ParameterSpecs(config), DType::kF32, allocator);
  store.Initialize(1, {});
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    const std::vector<double> values = testing::ToDouble(store.Get(name).value);
    double sum = 0.0;
    double squares = 0.0;
    for (const double x : values) {
      sum += x;
      squares += x * x;
    }
    const double n = static_cast<double>(values.size());  // 20000: 4 standard errors
    EXPECT_NEAR(sum / n, 0.0, 4.0 * 0.02 / std::sqrt(n)) << name;
    EXPECT_NEAR(std::sqrt(squares / n), 0.02, 4.0 * 0.02 / std::sqrt(2.0 * n)) << name;
  }
}

TEST(AnnealMixTest, FallsFromOneToZero) {
  ModelConfig config = FindCase("ksa").config;
  EXPECT_EQ(AnnealMix(config, 1), 1.0) << "without annealing";
  config.ksa.anneal = AnnealConfig{.start_step = 10, .end_step = 50};
  EXPECT_EQ(AnnealMix(config, 1), 1.0);
  EXPECT_EQ(AnnealMix(config, 10), 1.0);
  EXPECT_EQ(AnnealMix(config, 11), 0.975);
  EXPECT_EQ(AnnealMix(config, 20), 0.75);
  EXPECT_EQ(AnnealMix(config, 49), 1.0 - 0.975);
  EXPECT_EQ(AnnealMix(config, 50), 0.0);
  EXPECT_EQ(AnnealMix(config, 5000), 0.0);
  config.ksa.anneal = AnnealConfig{.start_step = 0, .end_step = 1};
  EXPECT_EQ(AnnealMix(config, 1), 0.0);
}

TEST(MakeLayoutTest, LiveChunksComeFromTheSmallestWindow) {
  EXPECT_EQ(MakeLayout(FindCase("ksa").config, 1, 19).live_chunks, 5) << "7 chunks, w = 1";
  const SummaryLayout layout = MakeLayout(FindCase("ksa, windows differ").config, 2, 19);
  EXPECT_EQ(layout.live_chunks, 6) << "w = 3, 0, 1";
  EXPECT_EQ(layout.rows(), 2 * (19 + 6));
  EXPECT_EQ(MakeLayout(FindCase("ksa, no summary is live").config, 1, 5).live_chunks, 0);
  for (const char* name : {"full", "swa", "sca"}) {
    EXPECT_EQ(MakeLayout(FindCase(name).config, 3, 19).rows(), 3 * 19) << name;
  }
  EXPECT_EQ(MakeLayout(FindCase("sca").config, 1, 19).chunk_size, 4);
  EXPECT_EQ(MakeLayout(FindCase("full").config, 1, 19).chunk_size, 1);
}

}  // namespace
}  // namespace ksa
