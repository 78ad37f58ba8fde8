// What is accepted, what it becomes, and where values come from.
#include <gtest/gtest.h>

#include "model/mixers/full/full.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"
#include "tests/trainer/config/support.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

Config LoadBase(const std::string& snippet = "", const std::vector<std::string>& sets = {}) {
  static const testing::Snippets kSnippets;
  return kSnippets.Load(snippet, sets).config;
}

TEST(LoadConfig, BlocksWithoutMlp) {
  EXPECT_EQ(LoadBase("model: {intermediate_size: 0}\nparallel: {tensor: 2}\n").model.intermediate_size, 0);
}

TEST(LoadConfig, Defaults) {
  const Config config = LoadBase();
  EXPECT_EQ(config.run.name, "base");
  EXPECT_EQ(config.run.dir, "runs/base");
  EXPECT_EQ(config.run.seed, 1234U);
  EXPECT_EQ(config.run.device, DeviceChoice::kAuto);
  EXPECT_TRUE(config.run.deterministic);
  EXPECT_FALSE(config.run.threads.has_value());

  const ModelConfig& model = config.model;
  EXPECT_EQ(model.num_key_value_heads, 4);
  EXPECT_EQ(model.head_dim, 8);
  EXPECT_EQ(model.rope_theta, 10000.0);
  EXPECT_EQ(model.rms_norm_eps, 1e-6);
  EXPECT_TRUE(model.qk_norm);
  EXPECT_FALSE(model.tie_word_embeddings);
  EXPECT_EQ(model.initializer_range, (InitializerRange{false, 0.02}));
  EXPECT_EQ(model.max_position_embeddings, 64);
  const LayerSpec ksa = KsaLayer(128);
  const LayerSpec full = FullLayer();
  EXPECT_EQ(model.layers, (std::vector<LayerSpec>{ksa, ksa, ksa, full}));
  EXPECT_EQ(model.ksa, KsaConfig{});
  EXPECT_EQ(model.ChunkSize(), 8);

  EXPECT_EQ(config.data.train, (std::vector<TrainSource>{{"data/a/train", 1.0, "train"}}));
  EXPECT_TRUE(config.data.validation.empty());
  EXPECT_FALSE(config.data.document_mask);
  EXPECT_EQ(config.data.on_corrupt, OnCorrupt::kAbort);

  EXPECT_EQ(config.training.micro_batch_size, 1);
  EXPECT_EQ(config.training.max_steps, 100);
  EXPECT_FALSE(config.training.hard_stop.has_value());
  EXPECT_FALSE(config.training.precision.has_value());
  EXPECT_EQ(config.training.recompute, Recompute::kNone);
  EXPECT_EQ(config.training.on_nonfinite, OnNonfinite::kAbort);
  EXPECT_EQ(config.training.spike_factor, 0.0);
  EXPECT_EQ(config.training.max_skips, 10);
  EXPECT_EQ(config.optimizer.lr, 1e-3);
  EXPECT_EQ(config.optimizer.min_lr, 1e-4);
  EXPECT_EQ(config.optimizer.beta1, 0.9);
  EXPECT_EQ(config.optimizer.beta2, 0.95);
  EXPECT_EQ(config.optimizer.eps, 1e-8);
  EXPECT_EQ(config.optimizer.weight_decay, 0.1);
  EXPECT_EQ(config.optimizer.clip_grad_norm, 1.0);
  EXPECT_EQ(config.schedule.kind, ScheduleKind::kWsd);
  EXPECT_EQ(config.schedule.warmup_steps, 0);
  EXPECT_EQ(config.schedule.decay_steps, 10);
  EXPECT_EQ(config.parallel, (ParallelConfig{1, 1, {}, false, 1}));
  EXPECT_EQ(config.checkpoint, (CheckpointConfig{1000, 2, 0, true, "auto", {}, {}}));
  EXPECT_EQ(config.evaluation, (EvaluationConfig{0, 8}));
  EXPECT_EQ(config.logging, (LoggingConfig{1, true}));
}

// Of every range the last value that is allowed; bad_*_test.cc hold the first that is not.
TEST(LoadConfig, Boundaries) {
  for (const char* snippet : {
           "run: {seed: 18446744073709551615, threads: 1}\n",
           "run: {seed: 0}\n",
           "model: {num_key_value_heads: 1}\n",
           "model: {head_dim: 2, hidden_size: 37}\n",
           "model: {max_position_embeddings: 64}\n",
           "model: {attention: {ksa: {chunk_size: 1, summary_tokens: 64, window_chunks: 0}}}\n",
           "model: {attention: {ksa: {chunk_size: 1000000}}}\n",
           "model: {attention: {ksa: {anneal: {start_step: 0, end_step: 1}}}}\n",
           "model: {attention: {ksa: {anneal: {start_step: none, end_step: none}}}}\n",
           "model: {attention: {pattern: [ksa, sca], sca: {chunk_size: 8, window_chunks: 0}}}\n",
           "model: {attention: {pattern: [full, sca], sca: {chunk_size: 4, window_chunks: 0}}}\n",
           "model: {attention: {pattern: [swa], swa: {window: 1}}}\n",
           "model: {attention: {ksa: {chunk_size: 1, summary_tokens: 64}}}\ntraining: {sequence_length: 33554431}\n",
           "training: {global_batch_size: 8, micro_batch_size: 8, hard_stop: 1}\n",
           "training: {global_batch_size: 1048576, sequence_length: 1048576, max_steps: 1048576}\n",
           "training: {max_steps: 1}\n",
           "training: {spike_factor: 1.0000001, max_skips: 1, on_nonfinite: abort}\n",
           "training: {spike_factor: 0}\n",
           "schedule: {warmup_steps: 90}\n",
           "schedule: {warmup_steps: 50, decay_steps: 50}\n",
           "schedule: {kind: cosine, warmup_steps: 100, decay_steps: 50}\n",
           "schedule: {kind: constant, warmup_steps: 100}\n",
           "optimizer: {min_lr: 1e-3, betas: [0, 0.9999], weight_decay: 0, clip_grad_norm: 0}\n",
           "parallel: {zero: 0, data: 8, sequence_parallel: false}\n",
           "checkpoint: {interval: 1, keep_last: 2, async: false}\n",
           "evaluation: {interval: 0, batches: 1}\n",
           "evaluation: {batches: all}\n",
           "data: {train: [{path: a, weight: 2046}, {path: b, weight: 1}]}\n",
       }) {
    EXPECT_NO_THROW(static_cast<void>(LoadBase(snippet))) << snippet;
  }
}

TEST(LoadConfig, PatternRepeatsOverTheDepth) {
  const Config config = LoadBase(
      "model:\n"
      "  num_hidden_layers: 7\n"
      "  attention:\n"
      "    pattern: [ksa, {kind: ksa, window_chunks: 3}, swa, {kind: swa, window: 5}, {kind: sca, window_chunks: 0}]\n"
      "    ksa: {window_chunks: 2}\n"
      "    swa: {window: 9}\n"
      "    sca: {chunk_size: 8}\n");
  const std::vector<LayerSpec> expected = {
      KsaLayer(2), KsaLayer(3), SwaLayer(9), SwaLayer(5), ScaLayer(0), KsaLayer(2), KsaLayer(3)};
  EXPECT_EQ(config.model.layers, expected);
  EXPECT_EQ(config.model.MinKsaWindow(), 2);
}

TEST(LoadConfig, ChunkSizeOfThePattern) {
  EXPECT_EQ(LoadBase("model: {attention: {pattern: [full]}}\n").model.ChunkSize(), 1);
  EXPECT_EQ(LoadBase("model: {attention: {pattern: [full], sca: {chunk_size: 4}}}\n").model.ChunkSize(), 1);
  EXPECT_EQ(LoadBase("model: {attention: {pattern: [full, sca], sca: {chunk_size: 4, window_chunks: 1}}}\n")
                .model.ChunkSize(),
            4);
  // A kind beyond the depth is no layer.
  const Config one = LoadBase("model: {num_hidden_layers: 1, attention: {pattern: [full, ksa, swa, sca]}}\n");
  EXPECT_FALSE(one.model.HasSummaryRows());
  EXPECT_EQ(one.model.ChunkSize(), 1);
}

TEST(LoadConfig, MaxTokensRoundsUp) {
  const std::string none = "training: {max_steps: none, max_tokens: ";
  EXPECT_EQ(LoadBase(none + "512}\n").training.max_steps, 1);
  EXPECT_EQ(LoadBase(none + "513}\n").training.max_steps, 2);
  EXPECT_EQ(LoadBase(none + "1}\n").training.max_steps, 1);
  EXPECT_EQ(LoadBase(none + "51200}\n").schedule.decay_steps, 10);
}

TEST(LoadConfig, Values) {
  const Config config = LoadBase(
      "run: {name: \"two words\", dir: 'somewhere/else', device: cpu, deterministic: false, threads: 3}\n"
      "model: {rope_theta: 1e6, initializer_range: fan_in, tie_word_embeddings: true}\n"
      "data:\n"
      "  train: [{path: x/y/, weight: 2.5}, {path: /abs/z, name: third}]\n"
      "  validation: [{path: v}]\n"
      "  on_corrupt: skip\n"
      "training: {precision: bf16, recompute: block, hard_stop: 7}\n"
      "checkpoint: {resume: some/checkpoint, load: other, allow_change: [optimizer.lr, training.max_tokens]}\n");
  EXPECT_EQ(config.run.name, "two words");
  EXPECT_EQ(config.run.dir, "somewhere/else");
  EXPECT_EQ(config.run.device, DeviceChoice::kCpu);
  EXPECT_EQ(config.run.threads, 3);
  EXPECT_EQ(config.model.rope_theta, 1e6);
  EXPECT_TRUE(config.model.initializer_range.fan_in);
  EXPECT_EQ(config.data.train, (std::vector<TrainSource>{{"x/y/", 2.5, "y"}, {"/abs/z", 1.0, "third"}}));
  EXPECT_EQ(config.data.validation, (std::vector<ValidationSource>{{"v", "v"}}));
  EXPECT_EQ(config.training.precision, DType::kBF16);
  EXPECT_EQ(config.training.recompute, Recompute::kBlock);
  EXPECT_EQ(config.training.hard_stop, 7);
  EXPECT_EQ(config.checkpoint.resume, "some/checkpoint");
  EXPECT_EQ(config.checkpoint.load, "other");
  EXPECT_EQ(config.checkpoint.allow_change, (std::vector<std::string>{"optimizer.lr", "training.max_tokens"}));
}

TEST(LoadConfig, SetGoesThroughTheSchema) {
  const Config config = LoadBase("run: {seed: 5}\n",
                                 {"run.seed=6",
                                  "run.seed=7",
                                  "optimizer.betas=[0.8, 0.9]",
                                  "data.train=[{path: p, weight: 3}, {path: q}]",
                                  "model.attention.pattern=[ksa, {kind: swa, window: 4}]",
                                  "model.attention.ksa={chunk_size: 4, independent: {norm: true}}",
                                  "training.max_steps=none",
                                  "training.max_tokens=5120",
                                  "run.dir=a=b"});
  EXPECT_EQ(config.run.seed, 7U);
  EXPECT_EQ(config.optimizer.beta1, 0.8);
  EXPECT_EQ(config.data.train.size(), 2U);
  EXPECT_EQ(config.model.layers[1], SwaLayer(4));
  EXPECT_EQ(config.model.ksa.chunk_size, 4);
  EXPECT_TRUE(config.model.ksa.independent.norm);
  EXPECT_EQ(config.training.max_steps, 10);
  EXPECT_EQ(config.run.dir, "a=b");
}

TEST(LoadConfig, SetReportsMistakes) {
  const testing::Snippets snippets;
  const auto report = [&](const std::string& set) { return snippets.Report("", {set}); };
  EXPECT_EQ(report("optimizer.lr=fast"),
            "--set 'optimizer.lr=fast': optimizer.lr: expected a number, as in 0.1, got 'fast'");
  EXPECT_EQ(report("optimizer.lrr=1"),
            "--set 'optimizer.lrr=1': optimizer.lrr: unknown key; did you mean 'optimizer.lr'?");
  EXPECT_EQ(report("lr=1"), "--set 'lr=1': lr: unknown key here; 'lr' belongs in section 'optimizer'");
  EXPECT_EQ(
      report("optimizer.lr.x=1"),
      "--set 'optimizer.lr.x=1': optimizer.lr.x: unknown key; 'optimizer' has lr, min_lr, betas, eps, weight_decay, "
      "clip_grad_norm");
  EXPECT_EQ(report("optimizer.lr"), "--set 'optimizer.lr': --set: expected key=value, as in optimizer.lr=3e-4");
  EXPECT_EQ(report("=3"), "--set '=3': --set: expected key=value, as in optimizer.lr=3e-4");
  EXPECT_EQ(report("optimizer.lr="),
            "--set 'optimizer.lr=': optimizer.lr: has no value; give number at least 0 or remove the key");
  EXPECT_EQ(
      report("optimizer=3"),
      "--set 'optimizer=3': optimizer: expected a mapping of lr, min_lr, betas, eps, weight_decay, clip_grad_norm, "
      "got '3'");
  EXPECT_TRUE(report("include=[a.yaml]").starts_with("--set 'include=[a.yaml]': include: unknown"));
  EXPECT_EQ(
      report("data.train=[{path: a, path: b}]"),
      "--set 'data.train=[{path: a, path: b}]': data.train[0].path: duplicate key, first given on line 1; keep one "
      "of the two");
}

TEST(LoadConfig, IncludePrecedenceAndOrigins) {
  const testing::TemporaryFolder folder;
  static_cast<void>(folder.Write("base.yaml", testing::kBase));
  static_cast<void>(folder.Write("parts/one.yaml", "run: {seed: 1, threads: 1}\nlogging: {interval: 1}\n"));
  static_cast<void>(folder.Write("parts/two.yaml", "run: {seed: 2, threads: 2}\n"));
  const std::string run = folder.Write("runs/run.yaml",
                                       "run:\n  threads: 3\n"
                                       "include: [../base.yaml, ../parts/one.yaml, ../parts/two.yaml]\n"
                                       "optimizer: {lr: 2e-3}\n");
  const LoadedConfig loaded = LoadConfig(run, {"optimizer.lr=3e-3"});
  EXPECT_EQ(loaded.config.run.name, "base");
  EXPECT_EQ(loaded.config.run.seed, 2U);
  EXPECT_EQ(loaded.config.run.threads, 3);
  EXPECT_EQ(loaded.config.optimizer.lr, 3e-3);
  const auto origin = [&](const char* key) { return folder.Strip(loaded.origins.at(key)); };
  EXPECT_EQ(origin("run.name"), "base.yaml:1");
  EXPECT_EQ(origin("run.seed"), "parts/two.yaml:1");
  EXPECT_EQ(origin("run.threads"), "runs/run.yaml:2");
  EXPECT_EQ(origin("logging.interval"), "parts/one.yaml:2");
  EXPECT_EQ(origin("optimizer.lr"), "--set");
  EXPECT_EQ(loaded.origins.count("optimizer.eps"), 0U);
}

TEST(LoadConfig, IncludeMistakes) {
  const testing::TemporaryFolder folder;
  static_cast<void>(folder.Write("base.yaml", testing::kBase));
  static_cast<void>(folder.Write("nested.yaml", "include: [base.yaml]\nrun: {seed: x}\n"));
  static_cast<void>(folder.Write("list.yaml", "- a\n"));
  const auto report = [&](const std::string& text) -> std::string {
    try {
      static_cast<void>(ParseConfig(text, folder.path() + "/t.yaml"));
      return "";
    } catch (const Error& error) {
      return folder.Strip(error.what());
    }
  };
  EXPECT_EQ(report("include: [base.yaml, nested.yaml]\n"),
            "nested.yaml:1:1: include: an included file cannot include others; list them in the run file\n"
            "nested.yaml:2:13: run.seed: expected a whole number in plain digits, as in 8, got 'x'");
  EXPECT_EQ(report("run: {seed: y}\ninclude: [base.yaml,\n  gone.yaml]\n"),
            "t.yaml:1:13: run.seed: expected a whole number in plain digits, as in 8, got 'y'\n"
            "t.yaml:3:3: include[1]: gone.yaml: no such file; paths are relative to this file");
  EXPECT_EQ(report("include: base.yaml\n"), "t.yaml:1:10: include: expected a list of files, got 'base.yaml'");
  EXPECT_EQ(report("include: [t.yaml/x]\n"),
            "t.yaml:1:11: include[0]: t.yaml/x: no such file; paths are relative to this file");
  EXPECT_EQ(
      report("include: [list.yaml]\n"),
      "list.yaml:1:1: document: expected a mapping of the sections run, model, data, training, optimizer, schedule, "
      "parallel, checkpoint, evaluation, logging, got a list");
}

TEST(LoadConfig, MissingKeysPointAtTheirSection) {
  try {
    static_cast<void>(ParseConfig("run: {seed: 3}\nmodel:\n  vocab_size: 5\n", "t.yaml"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(
        std::string(error.what()),
        "t.yaml:1:1: run.name: missing; give text (name of the run)\n"
        "t.yaml:1:1: data.train: missing; give list of {path, weight, name} (folders of token shards, or {task, "
        "weight, "
        "name, keys of the task}: samples that a task makes; weight: share "
        "of the samples, name: for reports)\n"
        "t.yaml:1:1: training.sequence_length: missing; give integer >= 1 (T: text tokens a sequence)\n"
        "t.yaml:1:1: training.global_batch_size: missing; give integer >= 1 (sequences an update; a multiple of "
        "micro_batch_size x data ranks)\n"
        "t.yaml:1:1: optimizer.lr: missing; give number at least 0 (peak learning rate)\n"
        "t.yaml:1:1: training.max_steps: missing; give max_steps or max_tokens\n"
        "t.yaml:2:1: model.hidden_size: missing; give integer >= 1 (width of the residual stream)\n"
        "t.yaml:2:1: model.intermediate_size: missing; give integer >= 0 (width of the SwiGLU feed-forward; 0: blocks "
        "without one)\n"
        "t.yaml:2:1: model.num_hidden_layers: missing; give integer from 1 to 100000 (layers)\n"
        "t.yaml:2:1: model.num_attention_heads: missing; give integer >= 1 (query heads)");
  }
}

TEST(LoadConfig, TenMistakesTenMessages) {
  const std::string text =
      "run: {name: ten, sed: 1}\n"                                  // unknown key
      "model:\n"                                                    //
      "  vocab_size: 2.5e2\n"                                       // no plain integer
      "  hidden_size: 64\n"                                         //
      "  hidden_size: 32\n"                                         // duplicate
      "  intermediate_size: 96\n"                                   //
      "  num_hidden_layers: 2\n"                                    //
      "  num_attention_heads: 4\n"                                  //
      "  num_key_value_heads: 3\n"                                  // does not divide
      "  head_dim: 5\n"                                             // odd
      "  attention: {pattern: [kza], ksa: {summary_tokens: 65}}\n"  // no kind; out of range
      "data: {train: [{path: a}], <<: {document_mask: true}}\n"     // merge key
      "training: {sequence_length: 64, global_batch_size: 8, max_steps: 10}\n"
      "schedule: {warmup_steps: 10}\n"  // leaves no room for the decay
      "checkpoint: {keep_last: 1}\n";   // out of range; and optimizer.lr is missing
  try {
    static_cast<void>(ParseConfig(text, "ten.yaml"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_EQ(
        std::string(error.what()),
        "ten.yaml:1:1: optimizer.lr: missing; give number at least 0 (peak learning rate)\n"
        "ten.yaml:1:18: run.sed: unknown key; did you mean 'run.seed'?\n"
        "ten.yaml:3:15: model.vocab_size: expected a whole number in plain digits, as in 8, got '2.5e2'\n"
        "ten.yaml:5:3: model.hidden_size: duplicate key, first given on line 4; keep one of the two\n"
        "ten.yaml:9:24: model.num_key_value_heads: 3 does not divide num_attention_heads 4; use a divisor of it\n"
        "ten.yaml:10:13: model.head_dim: must be even (RoPE turns pairs), got 5\n"
        "ten.yaml:11:25: model.attention.pattern[0]: expected one of ksa, full, swa, sca, hca, gdn, mla, got 'kza'\n"
        "ten.yaml:11:53: model.attention.ksa.summary_tokens: must be at most 64, got 65\n"
        "ten.yaml:12:28: data.<<: merge keys are not supported; write the keys out, or use 'include'\n"
        "ten.yaml:14:26: schedule.warmup_steps: 10 + decay_steps 1 (max_steps / 10) are more than max_steps 10; "
        "shorten "
        "one of them\n"
        "ten.yaml:15:25: checkpoint.keep_last: must be at least 2, got 1");
  }
}

TEST(LoadConfig, WarnsWhereNoSummaryIsLive) {
  const testing::Snippets snippets;
  const auto warnings = [&](const std::string& window) {
    return snippets.Load("model: {attention: {ksa: {window_chunks: " + window + "}}}\n").warnings;
  };
  EXPECT_TRUE(warnings("6").empty());  // 8 chunks: the last sees the summaries of the first
  ASSERT_EQ(warnings("7").size(), 1U);
  EXPECT_TRUE(
      warnings("7")[0].starts_with("model.attention: no summary is live: a sequence of 64 tokens has 8 chunks of 8"));
  EXPECT_TRUE(snippets.Load("model: {attention: {pattern: [full]}}\n").warnings.empty());
  // One layer with a live summary is enough.
  EXPECT_TRUE(snippets.Load("model: {attention: {pattern: [ksa, {kind: ksa, window_chunks: 2}]}}\n").warnings.empty());
  EXPECT_EQ(snippets.Load("model: {attention: {pattern: [full]}}\nevaluation: {interval: 5}\n").warnings.size(), 1U);
}

TEST(LoadConfig, WarnsWhereNoEntryIsLive) {
  const testing::Snippets snippets;
  const auto warnings = [&](const std::string& hca, const std::string& pattern = "hca") {
    return snippets.Load("model: {attention: {pattern: [" + pattern + "], hca: {" + hca + "}}}\n").warnings;
  };
  EXPECT_TRUE(warnings("window_chunks: 6").empty());  // 8 chunks: the last sees the entry of the first
  ASSERT_EQ(warnings("window_chunks: 7").size(), 1U);
  EXPECT_TRUE(warnings("window_chunks: 7")[0].starts_with(
      "model.attention: no entry is live: a sequence of 64 tokens has 8 chunks of 8"));
  EXPECT_TRUE(warnings("window_chunks: 7, visibility: overlap").empty());
  EXPECT_EQ(warnings("chunk_size: 65, visibility: overlap").size(), 1U) << "no chunk is whole";
  EXPECT_TRUE(warnings("window_chunks: 7", "hca, {kind: hca, window_chunks: 2}").empty());
}

TEST(LoadConfig, CudaNeedsABuildWithIt) {
  const testing::Snippets snippets;
  const std::string fp64 = snippets.Report("run: {device: cuda}\ntraining: {precision: fp64}\n");
  EXPECT_NE(fp64.find("t.yaml:3:23: training.precision: fp64 runs on the CPU only"), std::string::npos);
  EXPECT_EQ(snippets.Report("run: {device: cuda}\n").empty(), BuildHasCuda());
}

TEST(LoadConfig, ModelAlone) {
  // JSON is YAML: the configuration of a golden file.
  const ModelConfig model = ParseModelConfig(
      "{\"model\": {\"vocab_size\": 61, \"hidden_size\": 24, \"intermediate_size\": 32, \"num_hidden_layers\": 5, "
      "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 8, \"rope_theta\": 10000.0, "
      "\"rms_norm_eps\": 1e-06, \"max_position_embeddings\": 512, \"attention\": {\"pattern\": [\"ksa\", \"full\", "
      "\"ksa\"], \"ksa\": {\"chunk_size\": 4, \"window_chunks\": 2, \"full_layers\": \"bypass\"}}}}",
      "golden",
      56);
  EXPECT_EQ(model.layers.size(), 5U);
  EXPECT_EQ(model.layers[1], FullLayer());
  EXPECT_EQ(&model.layers[3]->kind(), &KsaKind());
  EXPECT_EQ(model.ksa.full_layers, FullLayers::kBypass);
  EXPECT_EQ(model.max_position_embeddings, 512);
  EXPECT_THROW(static_cast<void>(ParseModelConfig("model: {vocab_size: 3}\n", "t.yaml", 8)), Error);
}

}  // namespace
}  // namespace ksa
