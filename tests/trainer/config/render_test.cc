// A Config written out and read again.
#include <map>

#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

// Every key away from its default.
constexpr const char* kEverything =
    "run: {name: 'a: \"b\" #c', dir: 'x y/[z]', seed: 18446744073709551615, device: cpu, deterministic: false, "
    "threads: 7, max_wall_minutes: 90.5}\n"
    "model:\n"
    "  vocab_size: 300\n  hidden_size: 48\n  intermediate_size: 96\n  num_hidden_layers: 7\n"
    "  num_attention_heads: 6\n  num_key_value_heads: 2\n  head_dim: 10\n  rope_theta: 123456.789\n"
    "  rms_norm_eps: 1.25e-5\n  qk_norm: false\n  tie_word_embeddings: true\n  initializer_range: fan_in\n"
    "  max_position_embeddings: 4096\n"
    "  attention:\n"
    "    pattern: [ksa, {kind: ksa, window_chunks: 9}, swa, {kind: swa, window: 5}, sca, {kind: sca, window_chunks: "
    "0, rope: default}, {kind: full, short_conv: 0}]\n    rope: none\n    short_conv: 7\n    projection: mla\n"
    "    ksa:\n"
    "      chunk_size: 4\n      summary_tokens: 3\n      window_chunks: 2\n      text_positions: inner_chunk\n"
    "      summary_positions: zero\n      full_layers: bypass\n"
    "      independent: {embedding: false, qkv: true, norm: true, qk_norm: true}\n"
    "      anneal: {start_step: 3, end_step: 50}\n"
    "    swa: {window: 33}\n"
    "    sca: {chunk_size: 4, window_chunks: 1}\n"
    "    hca: {chunk_size: 5, window_chunks: 3, compressed_positions: zero, visibility: overlap, independent_kv: "
    "false,\n"
    "      gate: separate, value_norm: false}\n"
    "    gdn: {linear_num_key_heads: 3, linear_num_value_heads: 6, linear_key_head_dim: 7, linear_value_head_dim: 9,\n"
    "      linear_conv_kernel_dim: 5, linear_allow_neg_eigval: true}\n"
    "    mla: {q_lora_rank: 9, kv_lora_rank: 10, qk_nope_head_dim: 11, qk_rope_head_dim: 12, v_head_dim: 13}\n"
    "data:\n"
    "  train: [{path: /a/b, weight: 0.1, name: none}, {path: 'c, d', weight: 0.2, name: \"é\\\\\\x01\"}]\n"
    "  validation: [{path: v/w}, {path: -u, name: 'null'}]\n"
    "  document_mask: true\n  on_corrupt: skip\n"
    "training: {sequence_length: 61, global_batch_size: 12, micro_batch_size: 3, max_tokens: 100000, hard_stop: 77,\n"
    "  precision: fp64, recompute: mlp, on_nonfinite: skip, spike_factor: 2.5, max_skips: 3,\n"
    "  distill: {f_lm: 0.25, f_attn: 0, normalize: true}, z_loss: 1e-4}\n"
    "optimizer: {lr: 0.0033333333333333335, min_lr: 1e-5, betas: [0.87, 0.999], eps: 1e-12, weight_decay: 0.01,\n"
    "  clip_grad_norm: 0.3}\n"
    "schedule: {kind: cosine, warmup_steps: 11, decay_steps: 13, decay: sqrt}\n"
    "parallel: {data: 4, zero: 0, sequence_parallel: false}\n"
    "checkpoint: {interval: 5, keep_last: 9, keep_every: 10, async: false, resume: never, load: 'none', retries: 0, "
    "new_parameters: init, export_hf: true, allow_change: "
    "[optimizer.lr]}\n"
    "evaluation: {interval: 6, batches: all, tasks: [{task: needle, name: far, samples: 32, depth: [0.25, 0.5]}]}\n"
    "logging: {interval: 2, tensorboard: false}\n";

// Keys whose one other value is refused for now, or beside the rest of kEverything.
const std::vector<std::string> kFixed = {"parallel.tensor",
                                         "parallel.context",
                                         "parallel.sequence_parallel",
                                         "training.max_tokens",
                                         "training.trainable",
                                         "model.attention.ksa.independent.qkv"};

TEST(RenderConfig, EverythingSurvives) {
  const Config config = ParseConfig(kEverything, "t.yaml").config;
  EXPECT_EQ(config.checkpoint.load, "none") << "quoted, a word is a text";
  // The test says something about every key.
  const Config defaults = ParseConfig(testing::kBase, "t.yaml").config;
  std::map<std::string, std::string> default_values;
  for (const auto& [key, value] : FlattenConfig(defaults)) {
    default_values[key] = value;
  }
  for (const auto& [key, value] : FlattenConfig(config)) {
    const bool fixed = std::find(kFixed.begin(), kFixed.end(), key) != kFixed.end();
    EXPECT_EQ(value == default_values[key], fixed) << key << ": " << value;
  }
  const std::string text = RenderConfig(config);
  const LoadedConfig again = ParseConfig(text, "config.resolved.yaml");
  EXPECT_EQ(again.config, config) << text;
  EXPECT_EQ(RenderConfig(again.config), text);
  EXPECT_EQ(again.origins.size(), Schema().size()) << "complete";
}

TEST(RenderConfig, WhatAStartIsStillToDecideStaysOpen) {
  const Config config = ParseConfig(testing::kBase, "t.yaml", {"training.micro_batch_size=auto"}).config;
  EXPECT_FALSE(config.training.micro_batch_size.has_value());
  EXPECT_NE(RenderConfig(config).find("micro_batch_size: auto"), std::string::npos) << RenderConfig(config);
  EXPECT_EQ(ParseConfig(RenderConfig(config), "t.yaml").config, config);
}

TEST(RenderConfig, DefaultsSurvive) {
  Config config = ParseConfig(testing::kBase, "t.yaml").config;
  EXPECT_EQ(ParseConfig(RenderConfig(config), "t.yaml").config, config);
  ResolveDevice(config, false);
  CheckAgainstRanks(config, 4);
  EXPECT_EQ(ParseConfig(RenderConfig(config), "t.yaml").config, config);
}

TEST(RenderConfig, SharedProjectionsSurvive) {
  const Config config = ParseConfig(testing::kBase, "t.yaml", {"model.attention.ksa.independent.qkv=false"}).config;
  EXPECT_FALSE(config.model.ksa.independent.qkv);
  EXPECT_EQ(ParseConfig(RenderConfig(config), "t.yaml").config, config);
}

TEST(RenderConfig, WhatLearnsSurvives) {
  const Config config =
      ParseConfig(testing::kBase, "t.yaml", {"training.trainable=summaries", "training.distill={}"}).config;
  EXPECT_EQ(config.training.trainable, Trainable::kSummaries);
  EXPECT_EQ(config.training.distill, DistillConfig());
  EXPECT_EQ(ParseConfig(RenderConfig(config), "t.yaml").config, config);
  const Config none = ParseConfig(RenderConfig(config), "t.yaml", {"training.distill=none"}).config;
  EXPECT_FALSE(none.training.distill.has_value());
}

TEST(RenderConfig, ShortestPattern) {
  const auto pattern = [](const std::string& given, int layers) {
    const std::string text = testing::kBase;
    const LoadedConfig loaded = ParseConfig(
        text, "t.yaml", {"model.attention.pattern=" + given, "model.num_hidden_layers=" + std::to_string(layers)});
    for (const auto& [key, value] : FlattenConfig(loaded.config)) {
      if (key == "model.attention.pattern") {
        return value;
      }
    }
    return std::string();
  };
  EXPECT_EQ(pattern("[ksa]", 5), "[ksa]");
  EXPECT_EQ(pattern("[ksa, ksa]", 5), "[ksa]");
  EXPECT_EQ(pattern("[ksa, full]", 5), "[ksa, full]");
  EXPECT_EQ(pattern("[ksa, full]", 1), "[ksa]");
  EXPECT_EQ(pattern("[{kind: ksa, window_chunks: 128}, {kind: full}]", 4), "[ksa, full]");
  EXPECT_EQ(pattern("[ksa, full, full]", 4), "[ksa, full, full]");
  EXPECT_EQ(pattern("[ksa, {kind: ksa, window_chunks: 7}]", 2), "[ksa, {kind: ksa, window_chunks: 7}]");
  EXPECT_EQ(pattern("[full, {kind: full, rope: default, short_conv: 0}]", 2), "[full]");
  EXPECT_EQ(pattern("[{kind: full, projection: mla}, mla, {kind: swa, window: 3, projection: gqa}]", 3),
            "[{kind: full, projection: mla}, mla, {kind: swa, window: 3}]");
  EXPECT_EQ(pattern("[{kind: full, rope: none}, {kind: hca, short_conv: 4, window_chunks: 2}]", 2),
            "[{kind: full, rope: none}, {kind: hca, window_chunks: 2, short_conv: 4}]");
  EXPECT_EQ(pattern("[gdn, {kind: gdn}, full, {kind: gdn}]", 3), "[gdn, gdn, full]");
}

TEST(RenderConfig, OriginsAreCommentsOfValidYaml) {
  const testing::Snippets snippets;
  const LoadedConfig loaded =
      snippets.Load("training:\n  max_steps: none\n  max_tokens: 51200\n", {"optimizer.eps=1e-9"});
  const std::string text = RenderConfigWithOrigins(loaded);
  EXPECT_EQ(ParseConfig(text, "t.yaml").config, loaded.config) << text;
  const auto line = [&](const std::string& begin) {
    const size_t at = text.find("\n" + begin);
    EXPECT_NE(at, std::string::npos) << begin;
    return text.substr(at + 1, text.find('\n', at + 1) - at - 1);
  };
  const auto ends_with = [](const std::string& value, const std::string& end) { return value.ends_with(end); };
  EXPECT_PRED2(ends_with, line("  vocab_size: 257 "), "base.yaml:2");
  EXPECT_PRED2(ends_with, line("  eps: 1e-09 "), "# --set");
  EXPECT_PRED2(ends_with, line("  seed: 1234 "), "# default");
  EXPECT_PRED2(ends_with, line("  max_steps: 100 "), "t.yaml:4");
  EXPECT_NE(line("  max_steps: 100 ").find("# from training.max_tokens, "), std::string::npos);
}

// The defaults of the table are those of the program.
TEST(Schema, DefaultTexts) {
  Draft draft;
  int compared = 0;
  for (const Key& key : Schema()) {
    const std::string written = key.write(draft);
    if (key.required() || written.empty()) {
      continue;  // no default, or one that follows from other keys
    }
    EXPECT_EQ(written, key.default_text) << key.path;
    ++compared;
  }
  EXPECT_GT(compared, 40);
}

TEST(Schema, PathsAreDistinctAndInOrder) {
  std::map<std::string, int> seen;
  for (const Key& key : Schema()) {
    EXPECT_EQ(seen[key.path]++, 0) << key.path;
    EXPECT_EQ(FindKey(key.path), &key);
    EXPECT_TRUE(NamesUnder(key.path).empty()) << key.path << " is a key and a section";
  }
}

TEST(Schema, DocumentationNamesEveryKey) {
  std::ifstream file("docs/configuration.md");
  const std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::vector<std::string> classes = {"fixed", "free", "listed", "content"};
  for (const Key& key : Schema()) {
    const std::string row = "| `" + key.path + "` | " + key.type + " | `" + key.default_text + "` | " +
                            classes[static_cast<size_t>(key.change)] + " | " + key.doc + " |\n";
    EXPECT_NE(page.find(row), std::string::npos) << "docs/configuration.md lacks the row\n" << row;
  }
}

}  // namespace
}  // namespace ksa
