#include "trainer/commands/plan.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/files/result_file.h"
#include "data/loader/dataset.h"
#include "data/loader/open_source.h"
#include "trainer/commands/set_option.h"
#include "trainer/config/load.h"
#include "trainer/loop/run_plan.h"
#include "trainer/loop/trainer.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/table.h"

namespace ksa {
namespace {

using nlohmann::ordered_json;

constexpr int kMostRanks = 1 << 20;

struct PlanOptions {
  std::string config;
  std::vector<std::string> sets;
  std::optional<int> ranks;
  std::string device = "H200";
  std::optional<std::string> json;
};

void Warn(const std::string& file, const std::string& warning) {
  fmt::print(stderr, "{}: warning: {}\n", file, warning);
}

// Epochs of the run's tokens. None of tasks alone, and with a warning where a folder of the data is not there; what is
// there must fit.
std::optional<double> EpochsOf(const PlanOptions& options, const Config& config, int64_t tokens) {
  const DatasetConfig data = DatasetConfigOf(config);
  bool absent = false;
  for (const SourceProblem& problem : FindSourceProblems(data)) {
    if (!problem.absent) {
      Fail(problem.code, "{}: {}", problem.source, problem.message);
    }
    absent = true;
    Warn(options.config, fmt::format("{}: {} is not there (yet): epochs are not known", problem.source, problem.path));
  }
  const std::optional<int64_t> epoch = absent ? std::nullopt : Dataset(data).TokensPerEpoch();
  return epoch ? std::optional(static_cast<double>(tokens) / static_cast<double>(*epoch)) : std::nullopt;
}

// The ranks that the configuration itself names.
int RanksOf(const Config& config) {
  return config.parallel.context * config.parallel.tensor * config.parallel.data.value_or(1);
}

int64_t SentBy(const MeshPlan& plan, TrafficGroup group) {
  int64_t sent = 0;
  for (const CommCount& count : plan.counts.Of(group)) {
    sent += count.sent;
  }
  return sent;
}

std::string DescribeTraffic(const MeshPlan& plan) {
  std::string text;
  for (int i = 0; i < kTrafficGroups; ++i) {
    const auto group = static_cast<TrafficGroup>(i);
    if (const int64_t sent = SentBy(plan, group); sent > 0) {
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", ksa::NameOf(group), FormatBytes(sent));
    }
  }
  return text.empty() ? "nothing" : text;
}

std::string DescribeTime(const RunPlan& plan, const MeshPlan& mesh) {
  if (!mesh.seconds) {
    return "not known: the figures of devices are of bf16\n";
  }
  const StepSeconds& seconds = *mesh.seconds;
  const auto ms = [](double value) { return fmt::format("{:.1f}", 1e3 * value); };
  return fmt::format(
      "{} ms ({}K tokens/s, MFU {:.1f} %): products {}, attention {}, row-wise {}, optimizer {}, beside collectives "
      "{}, "
      "waiting {}\n",
      ms(seconds.Total()),
      static_cast<int64_t>(1e-3 * plan.TokensPerSecond(mesh)),
      100.0 * mesh.mfu.value_or(0.0),
      ms(seconds.products),
      ms(seconds.attention),
      ms(seconds.rows),
      ms(seconds.optimizer),
      ms(seconds.sharing),
      ms(seconds.Exposed()));
}

void Print(const PlanOptions& options, const RunPlan& plan, const KnownDevice& device) {
  const MeshPlan& mesh = *plan.Chosen();
  fmt::print("{} on {} x {}: data {} x context {} x tensor {}, recompute {}, {} micro-batch(es) an update\n",
             options.config,
             plan.ranks,
             plan.device,
             mesh.mesh.data,
             mesh.mesh.context,
             mesh.mesh.tensor,
             ksa::NameOf(mesh.recompute),
             mesh.micro_batches);
  fmt::print("parameters    {}\n", FormatCount(static_cast<double>(plan.parameters)));
  fmt::print("a token       {} FLOPs forward, {} with backward (live rows, visible pairs, head); {:.1f} keys a query\n",
             FormatCount(plan.forward_flops_per_token),
             FormatCount(3.0 * plan.forward_flops_per_token),
             plan.keys_per_query);
  fmt::print("memory        of the fullest rank; {} has {}: {}\n{}\n",
             device.name,
             FormatBytes(device.memory_bytes),
             mesh.fits ? "it fits" : "it does not fit",
             mesh.memory.Table());
  fmt::print("communicated  an update, sent by a rank: {}\n", DescribeTraffic(mesh));
  fmt::print("an update     {}", DescribeTime(plan, mesh));
  fmt::print("checkpoint    {}\n", FormatBytes(plan.checkpoint_bytes));
  fmt::print("the run       {} updates of {} tokens: {} tokens",
             plan.updates,
             FormatCount(static_cast<double>(plan.tokens_per_update)),
             FormatCount(static_cast<double>(plan.updates * plan.tokens_per_update)));
  fmt::print("{}", plan.epochs ? fmt::format(", {:.2f} epochs", *plan.epochs) : "");
  fmt::print("{}\n", plan.Days() ? fmt::format(", {:.2f} days", *plan.Days()) : "");
  if (!plan.best.empty()) {
    fmt::print("\nmeshes of {} x {}, the best first{}\n{}",
               plan.ranks,
               plan.device,
               plan.best.size() > kMeshesShown ? fmt::format(" ({} of {})", kMeshesShown, plan.best.size()) : "",
               MeshTable(plan, kMeshesShown).Text());
  }
}

template <typename T>
ordered_json OrNull(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

std::string JsonOf(const RunPlan& plan) {
  const MeshPlan& mesh = *plan.Chosen();
  ordered_json json = {
      {"device", plan.device},
      {"ranks", plan.ranks},
      {"mesh", {{"data", mesh.mesh.data}, {"context", mesh.mesh.context}, {"tensor", mesh.mesh.tensor}}},
      {"parameters", plan.parameters},
      {"flops_per_token", 3.0 * plan.forward_flops_per_token},
      {"forward_flops_per_token", plan.forward_flops_per_token}};
  for (const MemoryPlan::Segment& segment : mesh.memory.Segments()) {
    json["memory"][segment.key] = segment.bytes;
  }
  json["fits"] = mesh.fits;
  json["communicated"] = ordered_json::object();
  for (int i = 0; i < kTrafficGroups; ++i) {
    const auto group = static_cast<TrafficGroup>(i);
    json["communicated"][ksa::NameOf(group)] = SentBy(mesh, group);
  }
  json["checkpoint_bytes"] = plan.checkpoint_bytes;
  json["updates"] = plan.updates;
  json["epochs"] = OrNull(plan.epochs);
  json["step_seconds"] = OrNull(mesh.Seconds());
  json["days"] = OrNull(plan.Days());
  json["meshes"] = ordered_json::parse(MeshTable(plan, plan.best.size()).Json());
  return json.dump(2) + "\n";
}

void Plan(const PlanOptions& options) {
  const KnownDevice& device = FindDevice(options.device);
  LoadedConfig loaded = LoadConfig(options.config, options.sets);
  Config& config = loaded.config;
  for (const std::string& warning : loaded.warnings) {
    Warn(options.config, warning);
  }
  if (config.run.device == DeviceChoice::kCpu) {
    Warn(options.config, fmt::format("run.device is cpu; planned for {}", device.name));
  }
  ResolveForGpu(config);
  RunPlan plan = PlanRun(config, device, {.ranks = options.ranks.value_or(RanksOf(config)), .search = true});
  if (plan.Chosen() == nullptr) {
    Fail(ExitCode::kConfig, "{}", plan.problem);
  }
  if (!plan.problem.empty()) {
    Warn(options.config, plan.problem + "; planned on the best mesh");
  }
  plan.epochs = EpochsOf(options, config, plan.updates * plan.tokens_per_update);
  Print(options, plan, device);
  if (options.json) {
    WriteResult(*options.json, JsonOf(plan));
  }
}

}  // namespace

void AddPlanCommand(CLI::App& app) {
  const auto options = std::make_shared<PlanOptions>();
  CLI::App* command =
      app.add_subcommand("plan", "What a run will take: memory, operations, traffic, time; best meshes");
  command->add_option("config", options->config, "run configuration (YAML)")->required()->type_name("CONFIG");
  AddSetOption(*command, options->sets, "replace a value: key=value, as often as needed");
  command->add_option("--ranks", options->ranks, "ranks of the run; else what parallel.* names, at least one")
      ->check(CLI::Range(1, kMostRanks))
      ->type_name("N");
  command->add_option("--device", options->device, "the GPU it is planned for")
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--json", options->json, "also write the result to a file")->type_name("FILE");
  command->footer(
      "Examples:\n"
      "  ksa plan configs/train/ksa_1b9_8k.yaml --ranks 64 --device H200\n"
      "  ksa plan configs/train/ksa_1b9_8k.yaml --ranks 8 --set training.micro_batch_size=2 --json plan.json\n"
      "Runs the code of a step on imaginary memory and ranks: needs no GPU and no build with CUDA, and writes nothing\n"
      "else. Data folders that are not there leave the epochs open. A mesh that does not fit as configured is tried\n"
      "with recompute: block. Exit code 78 for a device that there are no figures of, with the names of those there\n"
      "are.");
  command->callback([options] { Plan(*options); });
}

}  // namespace ksa
