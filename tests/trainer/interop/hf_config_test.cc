// config.json: models come back from it equal, and what we cannot honour is refused by its field.
#include "trainer/interop/hf_config.h"

#include <random>

#include <nlohmann/json.hpp>

#include "tests/support/h5_reader.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/config/load.h"
#include "trainer/interop/hf_released.h"

namespace ksa::testing {
namespace {

using nlohmann::json;

ModelConfig Model(const std::string& attention, const std::string& more = "") {
  return ParseModelConfig(
      "model: {vocab_size: 61, hidden_size: 24, intermediate_size: 40, num_hidden_layers: 3, "
      "num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, rope_theta: 5e5, "
      "rms_norm_eps: 1e-5, max_position_embeddings: 100, " +
          more + " attention: {" + attention + "}}",
      "test",
      0);
}

json Qwen3() {
  return json::parse(RenderHfConfig(Model("pattern: [full]"), HfLayout::kQwen3, {}));
}

ModelConfig Back(const ModelConfig& model, HfLayout layout, const HfFacts& facts = {}) {
  const HfModel hf = ParseHfConfig(RenderHfConfig(model, layout, facts), "config.json");
  EXPECT_EQ(hf.layout, layout);
  EXPECT_EQ(hf.mix, facts.mix);
  return hf.model;
}

TEST(HfConfig, EveryModelComesBackFromTheOwnLayout) {
  const char* const attentions[] = {
      "pattern: [ksa], ksa: {chunk_size: 4, summary_tokens: 3, window_chunks: 2}",
      "pattern: [ksa, {kind: ksa, window_chunks: 9}, full], ksa: {chunk_size: 5, window_chunks: 2, text_positions: "
      "inner_chunk, summary_positions: zero, full_layers: bypass, independent: {embedding: false, qkv: true, norm: "
      "true, qk_norm: true}, anneal: {start_step: 3, end_step: 9}}",
      "pattern: [swa, sca, {kind: swa, window: 3}], swa: {window: 9}, sca: {chunk_size: 4, window_chunks: 3}",
      "pattern: [hca, {kind: hca, window_chunks: 3, short_conv: 2}, {kind: full, rope: none}], short_conv: 4, hca: "
      "{chunk_size: 4, compressed_positions: zero, visibility: overlap, independent_kv: false, gate: separate, "
      "value_norm: false}",
      "pattern: [{kind: ksa, projection: gqa}, mla, swa], projection: mla, rope: none, swa: {window: 9}, mla: "
      "{q_lora_rank: 20, kv_lora_rank: 16, qk_nope_head_dim: 6, qk_rope_head_dim: 4, v_head_dim: 8}",
      "pattern: [full]"};
  for (const char* attention : attentions) {
    for (const char* more : {"", "tie_word_embeddings: true, qk_norm: false, initializer_range: fan_in,"}) {
      const ModelConfig model = Model(attention, more);
      ASSERT_TRUE(LayoutProblems(model, HfLayout::kOwn).empty());
      EXPECT_EQ(Back(model, HfLayout::kOwn, {.mix = 0.25, .step = 7, .eos = 60}), model) << attention;
    }
  }
}

TEST(HfConfig, Qwen3ComesBackAndSaysWhatItsReadersNeed) {
  const ModelConfig model = Model("pattern: [full, swa], swa: {window: 9}");
  EXPECT_EQ(Back(model, HfLayout::kQwen3), model);
  const json config = json::parse(RenderHfConfig(model, HfLayout::kQwen3, {.eos = 60, .type = StoredType::kF32}));
  EXPECT_EQ(config["architectures"], json({"Qwen3ForCausalLM"}));
  EXPECT_EQ(config["head_dim"], 8);
  EXPECT_EQ(config["rope_theta"], 5e5);
  EXPECT_EQ(config["rope_parameters"]["rope_theta"], 5e5);
  EXPECT_EQ(config["layer_types"], json({"full_attention", "sliding_attention", "full_attention"}));
  EXPECT_EQ(config["use_sliding_window"], true);
  EXPECT_EQ(config["sliding_window"], 9);
  EXPECT_EQ(config["eos_token_id"], 60);
  EXPECT_EQ(config["dtype"], "float32");
}

// Version 4 of transformers: no layer_types, sliding from max_window_layers on.
TEST(HfConfig, OldSlidingWindowsAreRead) {
  json config = Qwen3();
  config.erase("layer_types");
  config["use_sliding_window"] = true;
  config["sliding_window"] = 7;
  config["max_window_layers"] = 2;
  const HfModel hf = ParseHfConfig(config.dump(), "config.json");
  EXPECT_EQ(hf.model.layers, Model("pattern: [full, full, {kind: swa, window: 7}]").layers);
}

TEST(HfConfig, LayoutsRefuseWhatTheyCannotSayByKey) {
  const std::tuple<HfLayout, const char*, const char*, const char*> cases[] = {
      {HfLayout::kQwen3, "pattern: [ksa]", "", "model.attention.pattern"},
      {HfLayout::kQwen3, "pattern: [sca], sca: {chunk_size: 4, window_chunks: 1}", "", "model.attention.pattern"},
      {HfLayout::kQwen3, "pattern: [full]", "qk_norm: false,", "model.qk_norm"},
      {HfLayout::kQwen3, "pattern: [{kind: swa, window: 3}, {kind: swa, window: 4}]", "", "swa.window"},
      {HfLayout::kReleased, "pattern: [full]", "", "no layer is ksa"},
      {HfLayout::kReleased, "pattern: [ksa, full], ksa: {full_layers: bypass}", "", "full_layers"},
      {HfLayout::kReleased, "pattern: [ksa, swa], swa: {window: 3}", "", "pattern"},
      {HfLayout::kReleased, "pattern: [ksa], ksa: {independent: {qk_norm: true}}", "", "independent.qk_norm"},
      {HfLayout::kReleased,
       "pattern: [ksa], ksa: {independent: {embedding: false}}",
       "tie_word_embeddings: true,",
       "independent.embedding"},
      {HfLayout::kReleased, "pattern: [ksa]", "qk_norm: false,", "model.qk_norm"},
      {HfLayout::kOwn, "pattern: [full, gdn]", "", "layer 1 is gdn"},
      {HfLayout::kQwen3, "pattern: [full, gdn]", "", "layer 1 is gdn"},
      {HfLayout::kReleased, "pattern: [ksa, gdn], ksa: {full_layers: bypass}", "", "pattern"},
      {HfLayout::kQwen3, "pattern: [hca]", "", "layer 0 is hca"},
      {HfLayout::kReleased, "pattern: [ksa, {kind: ksa, projection: mla}]", "", "layer 1 has"},
      {HfLayout::kReleased, "pattern: [full, {kind: ksa, rope: none}]", "", "layer 1 has rope: none"},
      {HfLayout::kQwen3, "pattern: [full], short_conv: 4", "", "layer 0 has rope: none, a short_conv"},
      {HfLayout::kReleased, "pattern: [ksa], rope: none", "", "layer 0 has rope: none"}};
  for (const auto& [layout, attention, more, says] : cases) {
    const std::vector<std::string> problems = LayoutProblems(Model(attention, more), layout);
    ASSERT_EQ(problems.size(), 1U) << attention;
    EXPECT_NE(problems[0].find(says), std::string::npos) << problems[0];
  }
}

TEST(HfConfig, FieldsThatCannotBeHonouredAreRefusedByName) {
  const std::pair<const char*, json> cases[] = {
      {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}},
      {"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 5e5}}},
      {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}},  // and rope_theta says otherwise
      {"attention_bias", true},
      {"attention_dropout", 0.1},
      {"hidden_act", "gelu"},
      {"model_type", "qwen3_moe"},
      {"model_type", "qwen2"},
      {"num_experts", 8},
      {"quantization_config", {{"bits", 4}}},
      {"layer_types", {"full_attention"}},
      {"layer_types", {"full_attention", "chunked_attention", "full_attention"}},
      {"layer_types", {"full_attention", "sliding_attention", "full_attention"}},  // without a window
      {"use_summary_attention", "yes"},
      {"some_new_thing", 1}};
  EXPECT_NO_THROW(static_cast<void>(ParseHfConfig(Qwen3().dump(), "config.json")));
  for (const auto& [field, value] : cases) {
    json config = Qwen3();
    config[field] = value;
    const Error error = ErrorOf([&] { static_cast<void>(ParseHfConfig(config.dump(), "config.json")); });
    EXPECT_EQ(error.code(), ExitCode::kConfig) << field;
    EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
  }
}

TEST(HfConfig, ReleasedWindowsAreReadAsTheyAreWritten) {
  const std::string path = "config.json";
  EXPECT_EQ(ParseWindows("([128]*3+[1024]*1)*2", 8, path),
            (std::vector<int64_t>{128, 128, 128, 1024, 128, 128, 128, 1024}));
  EXPECT_EQ(ParseWindows("[1, 2]+[3]", 3, path), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(ParseWindows(json(5U), 2, path), (std::vector<int64_t>{5, 5}));
  EXPECT_EQ(ParseWindows(json::parse("[4, 5]"), 2, path), (std::vector<int64_t>{4, 5}));
  for (const json& bad : {json("__import__('os')"),
                          json("[1]*999999999999"),
                          json("([1]*1000)*1000"),
                          json("[1"),
                          json("[1]]"),
                          json("((((((((((((((((((((((((([1])))))))))))))))))))))))))"),
                          json(""),
                          json("[-1]"),
                          json("[1]*2"),  // three layers
                          json::parse("[1, -2, 3]"),
                          json::parse("[1.5, 2, 3]"),
                          json()}) {
    const Error error = ErrorOf([&] { static_cast<void>(ParseWindows(bad, 3, path)); });
    EXPECT_EQ(error.code(), ExitCode::kConfig) << bad;
    EXPECT_NE(std::string(error.what()).find("summary_sliding_chunk_num"), std::string::npos) << error.what();
  }
}

// The golden files hold what the released implementation was given for the same models.
TEST(HfConfig, ReleasedFieldsAreThoseOfTheGoldenFiles) {
  for (const char* file : {"ksa_k8_m1_w2",
                           "hybrid_attend_own_k4",
                           "anneal_mix_half",
                           "inner_chunk_positions",
                           "partial_last_chunk_k8_m2",
                           "shared_params_k8"}) {
    const H5Reader golden(std::string("tests/golden/") + file + ".h5");
    const ModelConfig model = ParseModelConfig("{\"model\": " + golden.TextAttribute("/", "config") + "}", file, 0);
    if (!LayoutProblems(model, HfLayout::kReleased).empty()) {
      ADD_FAILURE() << file << ": " << LayoutProblems(model, HfLayout::kReleased).front();
      continue;
    }
    const json expected = json::parse(golden.TextAttribute("/", "released_config"));
    const json ours = json::parse(RenderHfConfig(model, HfLayout::kReleased, {}));
    int compared = 0;
    for (const auto& [field, value] : expected.items()) {
      if (field.starts_with("summary_") && field != "summary_attention_mode" && ours.contains(field)) {
        EXPECT_EQ(ours[field], value) << file << " " << field;
        ++compared;
      }
    }
    EXPECT_GE(compared, 8) << file;
  }
}

TEST(HfConfig, ReleasedComesBackButForFullLayers) {
  const ModelConfig model = Model(
      "pattern: [ksa, {kind: ksa, window_chunks: 9}, ksa], ksa: {chunk_size: 4, "
      "summary_tokens: 2, window_chunks: 3, summary_positions: chunk_start, independent: "
      "{norm: true}}");
  EXPECT_EQ(Back(model, HfLayout::kReleased).layers, model.layers);
  EXPECT_EQ(Back(model, HfLayout::kReleased).vocab_size, model.vocab_size);
  // A full layer is a window that no sequence fills.
  const ModelConfig hybrid = Model("pattern: [ksa, full, ksa], ksa: {chunk_size: 8, window_chunks: 3}");
  EXPECT_EQ(Back(hybrid, HfLayout::kReleased).layers,
            Model("pattern: [ksa, {kind: ksa, window_chunks: 13}, ksa], ksa: {window_chunks: 3}").layers);
}

TEST(HfConfig, MutationsNeverDoHarm) {
  std::mt19937 random(11);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const ModelConfig ksa = Model("pattern: [ksa, full, swa], ksa: {chunk_size: 4}, swa: {window: 3}");
  const std::string goods[] = {Qwen3().dump(),
                               RenderHfConfig(ksa, HfLayout::kOwn, {}),
                               RenderHfConfig(Model("pattern: [ksa]"), HfLayout::kReleased, {})};
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = goods[below(3)];
    for (size_t changes = 1 + below(3); changes > 0 && !text.empty(); --changes) {
      const size_t at = below(text.size());
      switch (below(4)) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + below(8));
          break;
        case 2:
          text[at] = "{}[],:\"0123456789-.e"[below(20)];
          break;
        default:
          text.insert(at, text.substr(below(text.size()), below(40)));
          break;
      }
    }
    try {
      static_cast<void>(ParseHfConfig(text, "config.json"));
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ExitCode::kBadData || error.code() == ExitCode::kConfig) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace ksa::testing
