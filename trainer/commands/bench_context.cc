// `ksa bench context`: attention over sequences that ranks share, by keys of other ranks and by heads.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "model/ops/attention.h"
#include "model/ops/context_attention.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/nccl.h"
#include "parallel/context/slices.h"
#include "trainer/commands/attention_shape.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/bench_inputs.h"
#include "trainer/commands/bench_report.h"
#include "trainer/commands/device_option.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/ranks_of_command.h"
#include "trainer/config/problems.h"
#include "trainer/config/rules.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  mpirun -np 2 ksa bench context
  mpirun -np 2 --bind-to none ksa bench context --device cpu --threads 1 --text-tokens 4096 --json context.json

One sequence of T tokens over all ranks. By keys, a rank receives the text of the window before its slices and all live
summaries (all earlier text in full layers); by heads, its share of the heads of all rows ("Ulysses"). Times hold
attention and communication and nothing between them that could hide it (in a model, queries are projected while keys
travel); medians of --repeat runs after one to warm up, on the slowest rank. Backward is the difference of both passes
and forward alone. "alone" is the whole sequence on one rank; MiB is what the busiest rank sends in both passes.
Defaults: on the CPU 2 heads of 64 in fp32, on a GPU 16 heads of 128 in bf16.)";

struct ContextOptions : AttentionShape {
  std::vector<int32_t> text_tokens;

  void SetDefaults(bool gpu) {
    AttentionShape::SetDefaults(gpu, gpu ? 10 : 3);
    if (text_tokens.empty()) {
      text_tokens = gpu ? std::vector<int32_t>{32768, 131072} : std::vector<int32_t>{4096, 16384};
    }
  }
};

// One layer: all rows are queries and keys.
struct Layer {
  SummaryLayout whole;
  AttentionWindow window;

  Layer(const ContextOptions& options, bool full, int32_t tokens)
      : whole{.text_tokens = tokens, .chunk_size = options.chunk_size},
        window(full ? AttentionWindow::Full() : AttentionWindow::Ksa(options.window_chunks)) {
    if (!full) {
      whole.summary_tokens = options.summary_tokens;
      whole.live_chunks = LiveChunks(whole.chunks(), options.window_chunks);
    }
  }
};

struct ContextRun {
  double forward = 0.0;  // milliseconds
  double both = 0.0;
  int64_t sent = 0;  // bytes of a forward and a backward pass
};

class ContextBench {
 public:
  ContextBench(const ContextOptions& options, Runtime& runtime, const ProcessMesh& mesh)
      : options_(options), runtime_(runtime), mesh_(mesh) {}

  // `method`: none for the whole sequence on this rank alone.
  [[nodiscard]] ContextRun Run(const Layer& layer, std::optional<ContextMethod> method) {
    const int ranks = method.has_value() ? group().size() : 1;
    const SummaryLayout local = MakeLocalLayout(layer.whole, ranks, method.has_value() ? group().rank() : 0);
    const Placements placement = Placements::Rows(Placement::Sharded(1));
    const auto make = [&](const char* name, int32_t heads) {
      const Shape shape = {local.rows(), int64_t{1} * heads * options_.head_dim};
      return Var{RandomNormal(name, shape, *options_.dtype, runtime_), placement};
    };
    const Var q = make("q", options_.heads);
    const Var k = make("k", options_.kv_heads);
    const Var v = make("v", options_.kv_heads);
    const Var dout = make("dout", options_.heads);
    ExecContext cx = runtime_.Context();
    cx.mesh = method.has_value() ? &mesh_ : nullptr;
    const auto attend = [&](const ExecContext& inner) {
      if (!method.has_value()) {
        return Attention(inner, q, k, v, {.layout = local, .window = layer.window, .head_dim = options_.head_dim});
      }
      const auto keys = StartContextKeys(
          inner,
          k,
          v,
          options_.heads,
          {.whole = layer.whole, .window = layer.window, .head_dim = options_.head_dim, .method = *method});
      return ContextAttention(inner, q, keys);
    };
    const auto both = [&] {
      Tape tape;
      ExecContext inner = cx;
      inner.tape = &tape;
      const Var out = attend(inner);
      tape.Backward(inner, out, dout.value);
    };
    group().ResetCounts();
    both();
    const int64_t sent = group().counts()[static_cast<size_t>(CollectiveKind::kExchange)].sent;
    ContextRun run;
    run.forward = Slowest(Measure(options_.repeat, cx.stream, [&] { (void)attend(cx); }).median);
    run.both = Slowest(Measure(options_.repeat, cx.stream, both).median);
    run.sent = mesh_.world().Max(sent);
    return run;
  }

 private:
  [[nodiscard]] Communicator& group() const { return mesh_.group(MeshAxis::kContext); }

  // To a nanosecond.
  [[nodiscard]] double Slowest(double milliseconds) const {
    return static_cast<double>(mesh_.world().Max(static_cast<int64_t>(milliseconds * 1e6))) * 1e-6;
  }

  const ContextOptions& options_;
  Runtime& runtime_;
  const ProcessMesh& mesh_;
};

void RunLayer(const ContextOptions& options, ContextBench& bench, bool full, int32_t tokens, BenchReport& report) {
  const Layer layer(options, full, tokens);
  const ContextRun alone = bench.Run(layer, std::nullopt);
  std::map<ContextMethod, ContextRun> runs;
  for (const ContextMethod method : {ContextMethod::kKeys, ContextMethod::kHeads}) {
    const ContextRun run = bench.Run(layer, method);
    runs[method] = run;
    report.table.AddRow({std::string(full ? "full causal" : "ksa"),
                         std::string(method == ContextMethod::kKeys ? "keys" : "heads"),
                         int64_t{tokens},
                         run.both,
                         run.forward,
                         run.both - run.forward,
                         static_cast<double>(run.sent) / (1 << 20),
                         alone.both,
                         alone.both / run.both,
                         alone.forward / run.forward});
  }
  report.findings.push_back(
      {fmt::format("heads_over_keys_{}_{}", full ? "full" : "ksa", tokens),
       fmt::format("{} at {} tokens: time by heads over time by keys: {{:.2f}}", full ? "full causal" : "ksa", tokens),
       runs[ContextMethod::kHeads].both / runs[ContextMethod::kKeys].both});
}

// As `ksa train` with parallel.context = ranks: every rank holds two slices of whole chunks.
void CheckSlices(const ContextOptions& options, int ranks) {
  Problems problems;
  Given given;
  given.sections["parallel"].source = problems.AddFile("command line");
  given.bad = {"parallel.tensor"};  // there is no model to divide
  for (const int32_t tokens : options.text_tokens) {
    Draft draft;
    draft.config.model.num_hidden_layers = 1;
    draft.config.model.ksa.chunk_size = options.chunk_size;
    draft.config.training.sequence_length = tokens;
    draft.config.parallel.context = ranks;
    CheckMeshRules({draft, given, problems});
  }
  if (!problems.empty()) {
    Fail(ExitCode::kUsage, "{}", problems.Report());
  }
}

// And by heads, every rank holds its share of them.
void CheckHeads(const ContextOptions& options, int ranks) {
  if (options.heads % options.kv_heads != 0 || options.kv_heads % ranks != 0) {
    Fail(ExitCode::kUsage,
         "{} query heads and {} of keys: expected a multiple of these, and these a multiple of {} ranks",
         options.heads,
         options.kv_heads,
         ranks);
  }
}

void RunBench(ContextOptions options, const RankOfCommand& rank) {
  Communicator& world = rank.world;
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  RuntimeOptions runtime_options = options.device.Options(options.dtype.value_or(DType::kF32));
  runtime_options.ordinal = rank.mpi.local_rank();
  runtime_options.local_size = rank.mpi.local_size();
  const bool gpu = runtime_options.device == DeviceKind::kCuda;
  options.SetDefaults(gpu);
  CheckHeads(options, world.size());
  CheckSlices(options, world.size());
  Runtime runtime(*self, runtime_options);
  runtime.SetWatchdog(&rank.watchdog);
  ProcessMesh::MakeGroup make;
  if (gpu) {
    make = [&](std::unique_ptr<Communicator> host) {
      return MakeNcclCommunicator(std::move(host), runtime.stream().device);
    };
  }
  const ProcessMesh mesh(world, {.context = world.size()}, false, make);
  BenchReport report = {"context",
                        fmt::format("{} ranks on {}", world.size(), DeviceName(runtime)),
                        runtime.stream().threads,
                        Table({{"mask", "mask", 0},
                               {"method", "by", 0},
                               {"text_tokens", "T", 0},
                               {"milliseconds", "fwd+bwd ms", 3},
                               {"forward_milliseconds", "fwd ms", 3},
                               {"backward_milliseconds", "bwd ms", 3},
                               {"mebibytes_sent", "MiB", 1},
                               {"alone_milliseconds", "alone ms", 3},
                               {"speedup", "alone/ours", 3},
                               {"speedup_forward", "fwd", 3}}),
                        {}};
  ContextBench bench(options, runtime, mesh);
  for (const bool full : {false, true}) {
    for (const int32_t tokens : options.text_tokens) {
      RunLayer(options, bench, full, tokens, report);
    }
  }
  if (world.rank() == 0) {
    Publish(report, options.json);
  }
}

}  // namespace

void AddBenchContextCommand(CLI::App& bench) {
  const auto options = std::make_shared<ContextOptions>();
  CLI::App* command =
      bench.add_subcommand("context", "Attention over sequences that ranks share: by keys of others, and by heads");
  const CLI::Validator sizes = WholeNumber(1, 1 << 22);
  command->add_option("--text-tokens", options->text_tokens, "lengths T")->check(sizes)->default_str("by the device");
  AddAttentionShape(*command, *options);
  command->footer(kExamples);
  command->callback([options] { RunOnRanks([&](const RankOfCommand& rank) { RunBench(*options, rank); }); });
}

}  // namespace ksa
