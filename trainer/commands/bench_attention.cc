// `ksa bench attention`: the attention kernels alone, KSA beside full causal attention.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/attention/attention.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/philox.h"
#include "model/ksa/cost.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/bench_report.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa bench attention
  ksa bench attention --text-tokens 4096 --chunk-size 16 --window-chunks 64 --full-causal 4096
  ksa bench attention --heads 8 --kv-heads 2 --threads 2 --dtype bf16 --json attention.json

Inputs are standard normal numbers; every time is the median of --repeat runs after one to warm up. A pair is a visible
(query, key) pair of one head; useful operations are 4 (forward) and 10 (backward) times the head dimension a pair.)";

struct AttentionOptions {
  std::vector<int32_t> text_tokens = {2048, 8192, 32768};
  std::vector<int32_t> full_causal = {8192};
  int32_t chunk_size = 8;
  int32_t window_chunks = 128;
  int32_t summary_tokens = 1;
  int32_t heads = 2;
  std::optional<int32_t> kv_heads;
  int32_t head_dim = 64;
  int threads = 1;
  int repeat = 3;
  DType dtype = DType::kF32;
  std::optional<std::string> json;
};

Tensor RandomNormal(const std::string& name, const Shape& shape, DType dtype, Allocator& allocator) {
  Tensor x = Tensor::Empty(shape, dtype, allocator);
  const uint64_t key = NamedKey(1234, name);
  DispatchFloating(dtype, [&](auto element) {
    using T = decltype(element);
    for (int64_t i = 0; i < x.size(); ++i) {
      x.As<T>()[i] = static_cast<T>(static_cast<Accumulator<T>>(NormalAt(key, static_cast<uint64_t>(i))));
    }
  });
  return x;
}

struct AttentionRun {
  bool full = false;
  int32_t tokens = 0;
  int64_t pairs = 0;  // of one head
  Timing forward;
  Timing backward;

  [[nodiscard]] double Milliseconds() const { return forward.median + backward.median; }
};

AttentionRun RunAttention(const AttentionOptions& options, bool full, int32_t tokens) {
  SummaryLayout layout = {.text_tokens = tokens, .chunk_size = options.chunk_size};
  const AttentionWindow window = full ? AttentionWindow::Full() : AttentionWindow::Ksa(options.window_chunks);
  if (!full) {
    layout.summary_tokens = options.summary_tokens;
    layout.live_chunks = LiveChunks(layout.chunks(), options.window_chunks);
  }
  PoolAllocator allocator;
  const Stream stream = {.threads = options.threads};
  const int64_t kv_heads = options.kv_heads.value_or(options.heads);
  const Shape queries = {layout.rows(), options.heads, options.head_dim};
  const Shape keys = {layout.rows(), kv_heads, options.head_dim};
  const Tensor q = RandomNormal("q", queries, options.dtype, allocator);
  const Tensor k = RandomNormal("k", keys, options.dtype, allocator);
  const Tensor v = RandomNormal("v", keys, options.dtype, allocator);
  const Tensor dout = RandomNormal("dout", queries, options.dtype, allocator);
  const auto empty = [&](const Shape& shape) { return Tensor::Empty(shape, options.dtype, allocator); };
  const Tensor out = empty(queries);
  const Tensor lse = Tensor::Empty({layout.rows(), options.heads}, AccumulationType(options.dtype), allocator);
  const Tensor dq = empty(queries);
  const Tensor dk = empty(keys);
  const Tensor dv = empty(keys);
  AttentionRun run = {.full = full, .tokens = tokens};
  run.pairs = CountTextPairs(layout, window).Total() + CountLiveSummaries(layout, options.window_chunks).pairs;
  run.forward = Measure(options.repeat, [&] {
    AttentionForward(
        {.q = q, .k = k, .v = v, .out = out, .lse = lse, .layout = layout, .window = window, .allocator = &allocator},
        stream);
  });
  run.backward = Measure(options.repeat, [&] {
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
                       .allocator = &allocator},
                      stream);
  });
  return run;
}

void AddRow(const AttentionOptions& options, const AttentionRun& run, Table& table) {
  const double pairs = static_cast<double>(run.pairs) * options.heads;
  const double gflop = static_cast<double>(options.head_dim) * pairs * 1e-9;
  table.AddRow({std::string(run.full ? "full causal" : "ksa"),
                int64_t{run.tokens},
                static_cast<double>(run.pairs) / run.tokens,
                run.Milliseconds(),
                run.forward.median,
                run.backward.median,
                run.forward.least,
                run.backward.least,
                run.Milliseconds() * 1e6 / pairs,
                14.0 * gflop / (run.Milliseconds() * 1e-3),
                4.0 * gflop / (run.forward.median * 1e-3),
                10.0 * gflop / (run.backward.median * 1e-3)});
}

std::vector<Finding> Compare(const std::vector<AttentionRun>& runs) {
  std::vector<Finding> findings;
  const auto pair_time = [](const AttentionRun& run) { return run.Milliseconds() / static_cast<double>(run.pairs); };
  std::map<int32_t, const AttentionRun*> ksa;
  for (const AttentionRun& run : runs) {
    if (!run.full) {
      ksa[run.tokens] = &run;
    }
  }
  if (ksa.size() > 1) {
    findings.push_back(
        {"pair_time_ratio",
         fmt::format(
             "ksa: time a pair at {} tokens over that at {}: {{:.2f}}", ksa.rbegin()->first, ksa.begin()->first),
         pair_time(*ksa.rbegin()->second) / pair_time(*ksa.begin()->second)});
  }
  for (const AttentionRun& full : runs) {
    const auto same = ksa.find(full.tokens);
    if (!full.full || same == ksa.end()) {
      continue;
    }
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

void BenchAttention(const AttentionOptions& options) {
  if (options.heads % options.kv_heads.value_or(options.heads) != 0) {
    Fail(ExitCode::kUsage, "--heads {} is not a multiple of --kv-heads {}", options.heads, *options.kv_heads);
  }
  BenchReport report = {"attention",
                        options.threads,
                        Table({{"mask", "mask", 0},
                               {"text_tokens", "T", 0},
                               {"keys_a_query", "keys/query", 0},
                               {"milliseconds", "fwd+bwd ms", 1},
                               {"forward_milliseconds", "fwd ms", 1},
                               {"backward_milliseconds", "bwd ms", 1},
                               {"forward_milliseconds_min", "min", 1},
                               {"backward_milliseconds_min", "min", 1},
                               {"nanoseconds_a_pair", "ns/pair", 3},
                               {"useful_gflops", "GFLOP/s", 1},
                               {"useful_gflops_forward", "fwd", 1},
                               {"useful_gflops_backward", "bwd", 1}}),
                        {}};
  std::vector<AttentionRun> runs;
  for (const bool full : {false, true}) {
    for (const int32_t tokens : full ? options.full_causal : options.text_tokens) {
      runs.push_back(RunAttention(options, full, tokens));
      AddRow(options, runs.back(), report.table);
    }
  }
  report.findings = Compare(runs);
  Publish(report, options.json);
}

}  // namespace

void AddBenchAttentionCommand(CLI::App& bench) {
  const auto options = std::make_shared<AttentionOptions>();
  CLI::App* command = bench.add_subcommand("attention", "Forward and backward of attention, KSA beside full causal");
  const CLI::Range sizes(1, 1 << 22);
  const auto add = [&](const char* name, auto& value, const char* help) {
    return command->add_option(name, value, help)->capture_default_str();
  };
  add("--text-tokens", options->text_tokens, "lengths T for KSA")->check(sizes);
  add("--full-causal", options->full_causal, "lengths for our own full causal attention; 0: none")
      ->check(CLI::Range(0, 1 << 22));
  add("--chunk-size", options->chunk_size, "k")->check(sizes);
  add("--window-chunks", options->window_chunks, "w")->check(CLI::Range(0, 1 << 22));
  add("--summary-tokens", options->summary_tokens, "m")->check(CLI::Range(1, 64));
  add("--heads", options->heads, "query heads")->check(CLI::Range(1, 1024));
  command->add_option("--kv-heads", options->kv_heads, "key/value heads [as many as --heads]")
      ->check(CLI::Range(1, 1024));
  add("--head-dim", options->head_dim, "even")->check(CLI::Range(2, 1024));
  add("--threads", options->threads, "cores to use")->check(CLI::Range(1, 1024));
  add("--repeat", options->repeat, "runs to take the median of")->check(CLI::Range(1, 1000));
  const std::map<std::string, DType> types = {{"fp32", DType::kF32}, {"bf16", DType::kBF16}, {"fp64", DType::kF64}};
  command->add_option("--dtype", options->dtype, "fp32, bf16 or fp64 [fp32]")
      ->transform(CLI::CheckedTransformer(types));
  command->add_option("--json", options->json, "also write the results to this file")->type_name("FILE");
  command->footer(kExamples);
  command->callback([options] {
    std::erase(options->full_causal, 0);
    BenchAttention(*options);
  });
}

}  // namespace ksa
