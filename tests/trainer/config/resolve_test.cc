// What is decided when the program runs: device, ranks, and what a resume may change.
#include <map>
#include <memory>

#include <gtest/gtest.h>

#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/full/full.h"
#include "tests/trainer/config/support.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

Config LoadBase(const std::vector<std::string>& sets = {}) {
  return ParseConfig(testing::kBase, "t.yaml", sets).config;
}

std::string MessageOf(const std::function<void()>& action) {
  try {
    action();
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    return error.what();
  }
}

TEST(ResolveDevice, DefaultsFollowTheDevice) {
  Config config = LoadBase();
  ResolveDevice(config, false);
  EXPECT_EQ(config.run.device, DeviceChoice::kCpu);
  EXPECT_EQ(config.training.precision, DType::kF32);

  config = LoadBase();
  ResolveDevice(config, true);
  EXPECT_EQ(config.run.device, BuildHasCuda() ? DeviceChoice::kCuda : DeviceChoice::kCpu);
  EXPECT_EQ(config.training.precision, BuildHasCuda() ? DType::kBF16 : DType::kF32);

  config = LoadBase({"training.precision=fp64"});
  ResolveDevice(config, true);
  EXPECT_EQ(config.run.device, DeviceChoice::kCpu) << "fp64 is for the CPU";
  EXPECT_EQ(config.training.precision, DType::kF64);

  config = LoadBase({"training.precision=bf16", "run.device=cpu"});
  ResolveDevice(config, true);
  EXPECT_EQ(config.run.device, DeviceChoice::kCpu);
  EXPECT_EQ(config.training.precision, DType::kBF16);
}

// A layer that GPUs have no kernels for.
class CpuMixer final : public AttentionMixer {
 public:
  using AttentionMixer::AttentionMixer;

  [[nodiscard]] std::string GpuProblem(const ModelConfig& /*config*/) const override { return "what only a CPU has"; }
};

TEST(ResolveDevice, RefusesAGpuForKeysThatItsKernelsDoNotTake) {
  Config config = LoadBase({"model.attention.pattern=[full, gdn]", "model.attention.gdn.linear_key_head_dim=129"});
  config.run.device = DeviceChoice::kCuda;
  EXPECT_EQ(MessageOf([&] { ResolveDevice(config, true); }),
            "run.device: layer 1 (gdn) needs model.attention.gdn.linear_key_head_dim 129 (128 at most), which has no "
            "kernels for GPUs yet; set run.device: cpu (--device cpu)");
  config = LoadBase({"model.attention.pattern=[full, gdn]"});
  config.run.device = DeviceChoice::kCuda;
  ResolveDevice(config, true);
}

TEST(ResolveDevice, RefusesAGpuForLayersWithoutKernels) {
  Config config = LoadBase({"model.attention.pattern=[full, full]"});
  config.model.layers[1] =
      LayerSpec(std::make_shared<CpuMixer>(FullKind(), AttentionWindow::Full(), AttentionOptions()));
  config.run.device = DeviceChoice::kCuda;
  EXPECT_EQ(MessageOf([&] { ResolveDevice(config, true); }),
            "run.device: layer 1 (full) needs what only a CPU has, which has no kernels for GPUs yet; set run.device: "
            "cpu (--device cpu)");
  config.run.device = DeviceChoice::kCpu;
  ResolveDevice(config, true);
  EXPECT_EQ(config.run.device, DeviceChoice::kCpu);
}

TEST(ResolveDevice, TakesAGpuForOptionsAndKinds) {
  for (const char* pattern : {"[full, {kind: ksa, short_conv: 4}]",
                              "[full, hca]",
                              "[full, mla]",
                              "[{kind: ksa, projection: mla}]",
                              "[full, {kind: ksa, rope: none}]"}) {
    Config config = LoadBase({std::string("model.attention.pattern=") + pattern});
    config.run.device = DeviceChoice::kCuda;
    ResolveDevice(config, true);
    EXPECT_EQ(config.run.device, DeviceChoice::kCuda) << pattern;
  }
}

TEST(CheckAgainstRanks, FillsInTheDataRanks) {
  for (const int ranks : {1, 2, 4, 8}) {
    Config config = LoadBase();
    CheckAgainstRanks(config, ranks);
    EXPECT_EQ(config.parallel.data, ranks);
  }
  Config config = LoadBase({"parallel.data=2"});
  CheckAgainstRanks(config, 2);
  EXPECT_EQ(config.parallel.data, 2);
}

std::string RanksReport(int ranks, const std::vector<std::string>& sets) {
  return MessageOf([&] {
    Config config = LoadBase(sets);
    CheckAgainstRanks(config, ranks);
  });
}

TEST(CheckAgainstRanks, Meshes) {
  Config config = LoadBase({"parallel.tensor=2", "parallel.context=2"});
  CheckAgainstRanks(config, 8);
  EXPECT_EQ(config.parallel.data, 2);
}

TEST(CheckAgainstRanks, Mistakes) {
  EXPECT_EQ(RanksReport(3, {}),
            "training.global_batch_size: 8 is not a multiple of micro_batch_size 1 x 3 data ranks; change one of them; "
            "meshes of 3 ranks (data x context x tensor): 1 x 3 x 1");
  EXPECT_EQ(RanksReport(3, {"training.micro_batch_size=auto"}),
            "training.global_batch_size: 8 is not a multiple of 3 data ranks; change one of them; "
            "meshes of 3 ranks (data x context x tensor): 1 x 3 x 1");
  EXPECT_EQ(RanksReport(2, {"training.micro_batch_size=8"}),
            "training.global_batch_size: 8 is not a multiple of micro_batch_size 8 x 2 data ranks; change one of them; "
            "meshes of 2 ranks (data x context x tensor): 1 x 2 x 1, 1 x 1 x 2");
  EXPECT_EQ(
      RanksReport(2, {"parallel.data=4"}),
      "parallel: data 4 x context 1 x tensor 1 is not the number of ranks, 2; start 4 ranks or change them; meshes "
      "of 2 ranks (data x context x tensor): 2 x 1 x 1, 1 x 2 x 1, 1 x 1 x 2");
  EXPECT_EQ(
      RanksReport(3, {"parallel.tensor=2"}),
      "parallel: 3 rank(s) are no multiple of context 1 x tensor 2; start a multiple of 2 or change them; meshes of "
      "3 ranks (data x context x tensor): 1 x 3 x 1");
  EXPECT_EQ(
      RanksReport(5, {"parallel.context=2"}),
      "parallel: 5 rank(s) are no multiple of context 2 x tensor 1; start a multiple of 2 or change them; no mesh "
      "of 5 ranks fits this model, sequence and batch");
  EXPECT_EQ(
      RanksReport(64,
                  {"parallel.data=1",
                   "training.global_batch_size=64",
                   "training.sequence_length=4096",
                   "model.num_attention_heads=16"}),
      "parallel: data 1 x context 1 x tensor 1 is not the number of ranks, 64; start 1 ranks or change them; meshes "
      "of 64 ranks (data x context x tensor): 64 x 1 x 1, 32 x 2 x 1, 16 x 4 x 1, 8 x 8 x 1, 4 x 16 x 1, 2 x 32 x "
      "1, 1 x 64 x 1, 32 x 1 x 2, 16 x 2 x 2, 8 x 4 x 2, 4 x 8 x 2, 2 x 16 x 2 and 13 more");
}

// The contract's classes, key by key.
TEST(DiffConfigs, Classes) {
  const auto expected = [](const std::string& key) {
    if (key == "data.train") {
      return ChangeClass::kContent;
    }
    for (const char* fixed : {"model.",
                              "data.document_mask",
                              "run.seed",
                              "training.sequence_length",
                              "training.global_batch_size",
                              "training.precision",
                              "training.trainable",
                              "training.distill"}) {
      if (key.starts_with(fixed)) {
        return ChangeClass::kRefused;
      }
    }
    for (const char* listed :
         {"optimizer.", "schedule.", "training.max_steps", "training.max_tokens", "training.z_loss"}) {
      if (key.starts_with(listed)) {
        return ChangeClass::kNeedsAllowChange;
      }
    }
    return ChangeClass::kFree;
  };
  std::map<ChangeClass, int> count;
  for (const Key& key : Schema()) {
    EXPECT_EQ(key.change, expected(key.path)) << key.path;
    ++count[key.change];
  }
  EXPECT_EQ(count[ChangeClass::kNeedsAllowChange], 13);
}

TEST(DiffConfigs, NothingDiffers) {
  EXPECT_TRUE(DiffConfigs(LoadBase(), LoadBase()).empty());
  // Written otherwise, the same.
  EXPECT_TRUE(DiffConfigs(LoadBase(),
                          LoadBase({"model.head_dim=8",
                                    "model.attention.pattern=[ksa, ksa, {kind: ksa, window_chunks: 128}, full]",
                                    "training.max_steps=none",
                                    "training.max_tokens=51200"}))
                  .empty());
}

TEST(DiffConfigs, RefusedWhateverIsAllowed) {
  for (const char* set : {"model.vocab_size=258",
                          "model.attention.ksa.window_chunks=3",
                          "model.attention.pattern=[ksa]",
                          "data.document_mask=true",
                          "run.seed=1",
                          "training.sequence_length=32",
                          "training.global_batch_size=16",
                          "training.precision=bf16"}) {
    const std::vector<ConfigDifference> differences = DiffConfigs(LoadBase(), LoadBase({set}));
    ASSERT_FALSE(differences.empty()) << set;
    EXPECT_EQ(differences[0].change, ChangeClass::kRefused) << set;
    EXPECT_FALSE(differences[0].allowed) << set;
    EXPECT_NE(MessageOf([&] { CheckResume(differences); }).find("a resume cannot change it"), std::string::npos) << set;
  }
}

TEST(DiffConfigs, FreeKeys) {
  const std::vector<ConfigDifference> differences = DiffConfigs(LoadBase(),
                                                                LoadBase({"run.name=other",
                                                                          "run.device=cpu",
                                                                          "run.deterministic=false",
                                                                          "run.threads=2",
                                                                          "run.max_wall_minutes=30",
                                                                          "data.validation=[{path: elsewhere}]",
                                                                          "data.on_corrupt=skip",
                                                                          "checkpoint.retries=0",
                                                                          "logging.interval=5",
                                                                          "evaluation.interval=5",
                                                                          "checkpoint.interval=5",
                                                                          "checkpoint.keep_last=3",
                                                                          "parallel.data=2",
                                                                          "parallel.zero=0",
                                                                          "training.micro_batch_size=4",
                                                                          "training.hard_stop=4",
                                                                          "training.recompute=block"}));
  EXPECT_EQ(differences.size(), 18U) << "run.dir follows run.name";
  for (const ConfigDifference& difference : differences) {
    EXPECT_EQ(difference.change, ChangeClass::kFree) << difference.key;
    EXPECT_TRUE(difference.allowed) << difference.key;
  }
  EXPECT_NO_THROW(CheckResume(differences));
}

// The fingerprint says what the shards hold; where they lie and how sources are called is free.
TEST(DiffConfigs, PathsOfDataAreFreeAndWeightsAreNot) {
  const auto of = [](const std::string& before, const std::string& after) {
    return DiffConfigs(LoadBase({"data.train=" + before}), LoadBase({"data.train=" + after}));
  };
  for (const char* moved : {"[{path: ./data/a/train/, name: train}]", "[{path: /mnt/b, name: news}]"}) {
    const std::vector<ConfigDifference> differences = of("[{path: data/a/train}]", moved);
    ASSERT_EQ(differences.size(), 1U) << moved;
    EXPECT_TRUE(differences[0].allowed) << moved;
    EXPECT_NO_THROW(CheckResume(differences));
  }
  for (const char* other : {"[{path: a, weight: 2}, {path: b}]", "[{path: a}]", "[{path: a}, {path: b}, {path: c}]"}) {
    const std::vector<ConfigDifference> differences = of("[{path: a}, {path: b}]", other);
    ASSERT_EQ(differences.size(), 1U) << other;
    EXPECT_FALSE(differences[0].allowed) << other;
    EXPECT_NE(MessageOf([&] { CheckResume(differences); }).find("neither the number of sources nor their weights"),
              std::string::npos);
  }
}

TEST(DiffConfigs, ListedKeys) {
  const auto report = [](std::vector<std::string> sets, const std::string& allow) {
    sets.push_back("checkpoint.allow_change=" + allow);
    return MessageOf([&] { CheckResume(DiffConfigs(LoadBase(), LoadBase(sets))); });
  };
  EXPECT_EQ(report({"optimizer.eps=1e-9"}, "[]"),
            "optimizer.eps: the checkpoint has 1e-08, the configuration 1e-09; set it back, or list optimizer.eps in "
            "checkpoint.allow_change");
  EXPECT_EQ(report({"optimizer.eps=1e-9"}, "[optimizer.eps]"), "");
  EXPECT_NE(report({"optimizer.eps=1e-9"}, "[optimizer.lr]"), "");
  EXPECT_EQ(report({"schedule.kind=cosine"}, "[schedule.kind]"), "");
  // Defaults follow their key ...
  EXPECT_EQ(report({"optimizer.lr=2e-3"}, "[optimizer.lr]"), "");
  EXPECT_EQ(report({"training.max_steps=200"}, "[training.max_steps]"), "");
  EXPECT_EQ(report({"training.max_steps=none", "training.max_tokens=102400"}, "[training.max_tokens]"), "");
  // ... values of their own don't.
  EXPECT_EQ(
      report({"optimizer.lr=2e-3", "optimizer.min_lr=1e-3"}, "[optimizer.lr]"),
      "optimizer.min_lr: the checkpoint has 0.0001, the configuration 0.001; set it back, or list optimizer.min_lr "
      "in checkpoint.allow_change");
  EXPECT_EQ(
      report({"training.max_steps=200"}, "[]"),
      "training.max_steps: the checkpoint has 100, the configuration 200; set it back, or list training.max_steps "
      "in checkpoint.allow_change\n"
      "schedule.decay_steps: the checkpoint has 10, the configuration 20; set it back, or list schedule.decay_steps "
      "in checkpoint.allow_change");
}

}  // namespace
}  // namespace ksa
