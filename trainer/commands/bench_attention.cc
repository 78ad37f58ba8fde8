// `ksa bench attention`: the attention kernels alone, KSA beside full causal attention.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "kernels/attention/attention.h"
#include "kernels/attention/pairs.h"
#include "kernels/core/gpu.h"
#include "trainer/commands/attention_paths.h"
#include "trainer/commands/attention_shape.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/bench_inputs.h"
#include "trainer/commands/bench_report.h"
#include "trainer/commands/device_option.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa bench attention
  ksa bench attention --text-tokens 4096 --chunk-size 16 --window-chunks 64 --full-causal 4096
  ksa bench attention --device cpu --heads 8 --kv-heads 2 --threads 2 --dtype bf16 --json attention.json
  ksa bench attention --device cuda --paths wgmma mma --kv-heads 8 --heads 32
  ksa bench attention --device cuda --head-dim 192 --value-dim 128 --hca 8192

Inputs are standard normal numbers; every time is the median of --repeat runs after one to warm up. A pair is a visible
(query, key) pair of one head; with e columns of keys and c of values its useful operations are 2 (e + c) forward and
2 (3e + 2c) backward. hca has one entry a chunk in the place of summaries, and text alone asks.
Defaults: on the CPU 2 heads of 64 in fp32, on a GPU 16 heads of 128 in bf16. On a GPU of compute capability 9 in bf16
with heads of 64 or 128, ksa runs on both tensor-core paths, and full causal attention by what training takes and by
cuDNN, backward in cuDNN's default order of additions, which varies. The comparisons below the table are with the last
row of each.)";

enum class Mask : int { kKsa, kHca, kFull };

const char* NameOf(Mask mask) {
  return mask == Mask::kKsa ? "ksa" : mask == Mask::kHca ? "hca" : "full causal";
}

struct AttentionOptions : AttentionShape {
  int32_t value_dim = 0;
  std::vector<int32_t> text_tokens;
  std::vector<int32_t> hca;
  std::vector<int32_t> full_causal;
  std::vector<AttentionPath> paths;
  std::vector<AttentionPath> full_paths;

  // Fills in what was not given. `device_info`: none for the CPU.
  void SetDefaults(const std::optional<GpuInfo>& device_info) {
    const bool gpu = device_info.has_value();
    AttentionShape::SetDefaults(gpu, gpu ? 20 : 3);
    const auto set = [](auto& value, auto fallback) {
      if (value == std::remove_reference_t<decltype(value)>{}) {
        value = std::move(fallback);
      }
    };
    const std::vector<int32_t> gpu_tokens = {8192, 32768, 131072};
    set(value_dim, head_dim);
    set(text_tokens, gpu ? gpu_tokens : std::vector<int32_t>{2048, 8192, 32768});
    set(full_causal, gpu ? gpu_tokens : std::vector<int32_t>{8192});
    AttentionPaths fallback = DefaultAttentionPaths(device_info, *dtype, {head_dim, value_dim});
    set(paths, std::move(fallback.ksa));
    full_paths = std::move(fallback.full);
    std::erase(full_causal, 0);
  }
};

struct AttentionRun {
  Mask mask = Mask::kKsa;
  int32_t tokens = 0;
  AttentionPath path = AttentionPath::kAuto;
  int64_t pairs = 0;  // of one head
  Timing forward;
  Timing backward;

  [[nodiscard]] double Milliseconds() const { return forward.median + backward.median; }
};

AttentionRun RunAttention(
    const AttentionOptions& options, Runtime& runtime, Mask mask, int32_t tokens, AttentionPath path) {
  SummaryLayout layout = {.text_tokens = tokens, .chunk_size = options.chunk_size};
  const AttentionWindow window =
      mask == Mask::kFull ? AttentionWindow::Full() : AttentionWindow::Ksa(options.window_chunks);
  if (mask != Mask::kFull) {
    layout.summary_tokens = mask == Mask::kHca ? 1 : options.summary_tokens;
    layout.live_chunks = LiveChunks(layout.chunks(), options.window_chunks);
  }
  const int64_t query_rows = mask == Mask::kHca ? layout.text_rows() : layout.rows();
  Allocator& allocator = runtime.allocator();
  Stream stream = runtime.stream();
  stream.deterministic = path != AttentionPath::kCudnn;
  const DType dtype = *options.dtype;
  const Shape queries = {query_rows, options.heads, options.head_dim};
  const Shape outputs = {query_rows, options.heads, options.value_dim};
  const Shape keys = {layout.rows(), options.kv_heads, options.head_dim};
  const Shape values = {layout.rows(), options.kv_heads, options.value_dim};
  const Tensor q = RandomNormal("q", queries, dtype, runtime);
  const Tensor k = RandomNormal("k", keys, dtype, runtime);
  const Tensor v = RandomNormal("v", values, dtype, runtime);
  const Tensor dout = RandomNormal("dout", outputs, dtype, runtime);
  const auto empty = [&](const Shape& shape) { return Tensor::Empty(shape, dtype, allocator); };
  const Tensor out = empty(outputs);
  const Tensor lse = Tensor::Empty({query_rows, options.heads}, AccumulationType(dtype), allocator);
  const Tensor dq = empty(queries);
  const Tensor dk = empty(keys);
  const Tensor dv = empty(values);
  AttentionRun run = {.mask = mask, .tokens = tokens, .path = path};
  run.pairs = CountTextPairs(layout, window).Total();
  if (mask == Mask::kKsa) {
    run.pairs += CountLiveSummaries(layout, options.window_chunks).pairs;
  }
  run.forward = Measure(options.repeat, stream, [&] {
    AttentionForward({.q = q,
                      .k = k,
                      .v = v,
                      .out = out,
                      .lse = lse,
                      .layout = layout,
                      .window = window,
                      .path = path,
                      .allocator = &allocator},
                     stream);
  });
  run.backward = Measure(options.repeat, stream, [&] {
    AttentionBackward({.q = q,
                       .k = k,
                       .v = v,
                       .out = out,
                       .lse = lse,
                       .dout = dout,
                       .dq = dq,
                       .dk = dk,
                       .dv = dv,
                       .layout = layout,
                       .window = window,
                       .path = path,
                       .allocator = &allocator},
                      stream);
  });
  return run;
}

void AddRow(const AttentionOptions& options, const AttentionRun& run, Table& table) {
  const double pairs = static_cast<double>(run.pairs) * options.heads;
  const double keys = options.head_dim * pairs * 1e-12;
  const double values = options.value_dim * pairs * 1e-12;
  const double forward = 2.0 * (keys + values);
  const double backward = 2.0 * (3.0 * keys + 2.0 * values);
  table.AddRow({std::string(NameOf(run.mask)),
                NameOf(run.path),
                int64_t{run.tokens},
                static_cast<double>(run.pairs) / run.tokens,
                run.Milliseconds(),
                run.forward.median,
                run.backward.median,
                run.forward.least,
                run.backward.least,
                run.Milliseconds() * 1e6 / pairs,
                (forward + backward) / (run.Milliseconds() * 1e-3),
                forward / (run.forward.median * 1e-3),
                backward / (run.backward.median * 1e-3)});
}

std::vector<Finding> Compare(const std::vector<AttentionRun>& runs) {
  std::vector<Finding> findings;
  const auto pair_time = [](const AttentionRun& run) { return run.Milliseconds() / static_cast<double>(run.pairs); };
  std::map<Mask, std::map<int32_t, const AttentionRun*>> last_runs;  // of the last path
  for (const AttentionRun& run : runs) {
    last_runs[run.mask][run.tokens] = &run;
  }
  const auto& ksa = last_runs[Mask::kKsa];
  if (ksa.size() > 1) {
    findings.push_back(
        {"pair_time_ratio",
         fmt::format(
             "ksa: time a pair at {} tokens over that at {}: {{:.2f}}", ksa.rbegin()->first, ksa.begin()->first),
         pair_time(*ksa.rbegin()->second) / pair_time(*ksa.begin()->second)});
  }
  for (const auto& [tokens, hca] : last_runs[Mask::kHca]) {
    if (const auto same = ksa.find(tokens); same != ksa.end()) {
      findings.push_back({fmt::format("hca_time_ratio_{}", tokens),
                          fmt::format("hca over ksa at {} tokens, time: {{:.3f}}", tokens),
                          hca->Milliseconds() / same->second->Milliseconds()});
    }
  }
  for (const auto& [tokens, last] : last_runs[Mask::kFull]) {
    const auto same = ksa.find(tokens);
    if (same == ksa.end()) {
      continue;
    }
    const AttentionRun& full = *last;
    const AttentionRun& run = *same->second;
    const auto add = [&](const std::string& key, const std::string& what, double value) {
      findings.push_back({fmt::format("{}_{}", key, full.tokens),
                          fmt::format("full causal over ksa at {} tokens, {}: {{:.2f}}", full.tokens, what),
                          value});
    };
    add("pairs_ratio", "pairs", static_cast<double>(full.pairs) / static_cast<double>(run.pairs));
    add("speedup", "time", full.Milliseconds() / run.Milliseconds());
    add("speedup_forward", "time forward", full.forward.median / run.forward.median);
    add("speedup_backward", "time backward", full.backward.median / run.backward.median);
  }
  return findings;
}

void CheckPaths(const AttentionOptions& options, const std::optional<GpuInfo>& gpu) {
  for (const AttentionPath path : options.paths) {
    const std::string_view refusal = WhyNotPath(path, gpu, *options.dtype, {options.head_dim, options.value_dim});
    if (!refusal.empty()) {
      Fail(ExitCode::kUsage, "--paths {}: {}", NameOf(path), refusal);
    }
  }
}

void BenchAttention(AttentionOptions options) {
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  const RuntimeOptions runtime_options = options.device.Options(options.dtype.value_or(DType::kF32));
  const bool gpu = runtime_options.device == DeviceKind::kCuda;
  Watchdog watchdog(gpu ? WatchdogSeconds() : 0.0);  // a processor does not hang, but one call may take an hour
  watchdog.Enter(Phase::kMeasure);
  Runtime runtime(*self, runtime_options);
  runtime.SetWatchdog(&watchdog);
  options.SetDefaults(runtime.gpu());
  if (options.heads % options.kv_heads != 0) {
    Fail(ExitCode::kUsage, "--heads {} is not a multiple of --kv-heads {}", options.heads, options.kv_heads);
  }
  CheckPaths(options, runtime.gpu());
  BenchReport report = {"attention",
                        DeviceName(runtime),
                        runtime.stream().threads,
                        Table({{"mask", "mask", 0},
                               {"path", "path", 0},
                               {"text_tokens", "T", 0},
                               {"keys_a_query", "keys/query", 0},
                               {"milliseconds", "fwd+bwd ms", gpu ? 3 : 1},
                               {"forward_milliseconds", "fwd ms", gpu ? 3 : 1},
                               {"backward_milliseconds", "bwd ms", gpu ? 3 : 1},
                               {"forward_milliseconds_min", "min", gpu ? 3 : 1},
                               {"backward_milliseconds_min", "min", gpu ? 3 : 1},
                               {"nanoseconds_a_pair", "ns/pair", gpu ? 6 : 3},
                               {"useful_tflops", "TFLOP/s", gpu ? 1 : 4},
                               {"useful_tflops_forward", "fwd", gpu ? 1 : 4},
                               {"useful_tflops_backward", "bwd", gpu ? 1 : 4}}),
                        {}};
  std::vector<AttentionRun> runs;
  const auto run_all = [&](Mask mask, const std::vector<AttentionPath>& paths, const std::vector<int32_t>& lengths) {
    for (const AttentionPath path : paths) {
      for (const int32_t tokens : lengths) {
        runs.push_back(RunAttention(options, runtime, mask, tokens, path));
        AddRow(options, runs.back(), report.table);
      }
    }
  };
  run_all(Mask::kKsa, options.paths, options.text_tokens);
  run_all(Mask::kHca, options.paths, options.hca);
  run_all(Mask::kFull, options.full_paths, options.full_causal);
  report.findings = Compare(runs);
  Publish(report, options.json);
}

}  // namespace

void AddBenchAttentionCommand(CLI::App& bench) {
  const auto options = std::make_shared<AttentionOptions>();
  options->device.threads = 1;
  CLI::App* command = bench.add_subcommand("attention", "Forward and backward of attention, KSA beside full causal");
  const CLI::Validator sizes = WholeNumber(1, 1 << 22);
  command->add_option("--text-tokens", options->text_tokens, "lengths T for KSA")
      ->check(sizes)
      ->default_str("by the device");
  command->add_option("--hca", options->hca, "lengths for hca")->check(sizes)->default_str("none");
  command->add_option("--value-dim", options->value_dim, "numbers of a head of values")
      ->check(WholeNumber(1, 1024))
      ->default_str("as --head-dim");
  command->add_option("--full-causal", options->full_causal, "lengths for full causal attention; 0: none")
      ->check(WholeNumber(0, 1 << 22))
      ->default_str("by the device");
  command->add_option("--paths", options->paths, "implementations of ksa on a GPU")
      ->transform(Choice<AttentionPath>({AttentionPathNames().begin(), AttentionPathNames().end()}))
      ->default_str("what suits the device");
  AddAttentionShape(*command, *options);
  command->footer(kExamples);
  command->callback([options] { BenchAttention(*options); });
}

}  // namespace ksa
