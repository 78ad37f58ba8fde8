// `ksa bench decode`: tokens one by one, with caches, on random tokens.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/gpu.h"
#include "kernels/core/philox.h"
#include "model/ksa/cost.h"
#include "model/ksa/decoder.h"
#include "model/ksa/parameters.h"
#include "parallel/comm/communicator.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/bench_report.h"
#include "trainer/commands/device_option.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"
#include "trainer/commands/set_option.h"
#include "trainer/config/load.h"
#include "trainer/evaluate/cache_memory.h"
#include "trainer/observe/trace.h"
#include "trainer/step/runtime.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa bench decode --model configs/model/ksa_4m.yaml --length 1024
  ksa bench decode --model configs/model/ksa_4m.yaml --length 256 1024 --batch 1 8 --with-full --json decode.json

A step takes one token of every sequence, from its embedding to its logits on the host. The last --steps tokens of each
length are timed. "prefill" is what comes before them, in one pass a sequence; "forward" such a pass that keeps nothing,
as in training. Bytes are those that a step must read: the weights once (the summaries' own once in a chunk of steps), and
the caches. The bound is the time in which this machine copies as many bytes.)";

struct DecodeOptions {
  std::string model;
  std::vector<std::string> sets;
  std::vector<int32_t> lengths;
  std::vector<int32_t> batches = {1};
  int32_t steps = 64;
  std::optional<DType> precision;
  DeviceOption device;
  bool with_full = false;
  bool one_by_one = false;
  std::optional<std::string> trace;
  std::optional<std::string> json;
};

struct DecodeRun {
  std::string pattern;
  int32_t length = 0;
  int32_t batch = 1;
  int32_t prefilled = 0;  // tokens of a sequence
  int64_t weight_bytes = 0;
  int64_t cache_bytes = 0;  // of all sequences, counted from the buffers
  double prefill_seconds = 0.0;
  double forward_seconds = 0.0;  // of one pass over one beginning that keeps nothing
  double step_seconds = 0.0;
  double copied_bytes_a_second = 0.0;

  [[nodiscard]] double BytesRead() const { return static_cast<double>(weight_bytes + cache_bytes); }
};

// Hears of operations while it is told to.
class SometimesTracer final : public Tracer {
 public:
  void Begin(const char* op, const Stream& stream) override {
    if (on_) {
      trace_.Begin(op, stream);
    }
  }

  void End(const Stream& stream) noexcept override {
    if (on_) {
      trace_.End(stream);
    }
  }

  void Turn(bool on) { on_ = on; }

  void Write(const std::string& path) const { trace_.Write(path); }

 private:
  ChromeTrace trace_;
  bool on_ = false;
};

// So much work that the host has queued a step before its first operation begins: then the device's times of operations
// have no waiting for the host in them.
void QueueAhead(const ExecContext& cx) {
  if (cx.stream.device.IsCpu()) {
    return;
  }
  const Tensor memory = cx.Empty({int64_t{1} << 28}, DType::kF32);
  for (int i = 0; i < 64; ++i) {
    Zero(memory, cx.stream);
  }
}

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<int32_t> RandomIds(const ModelConfig& model, int32_t count, int32_t sequence) {
  const uint64_t key = NamedKey(1234, fmt::format("bench.decode.{}", sequence));
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) {
    const uint32_t bits = Philox4x32(key, static_cast<uint64_t>(i))[0];
    ids.push_back(static_cast<int32_t>(bits % static_cast<uint32_t>(model.vocab_size)));
  }
  return ids;
}

// Bytes read and written a second by a plain copy, far larger than caches of processors.
double MeasureCopy(Runtime& runtime) {
  const int64_t elements = runtime.gpu() ? int64_t{1} << 28 : int64_t{1} << 25;
  const ExecContext cx = runtime.Context();
  const Tensor from = cx.Empty({elements}, DType::kF32);
  const Tensor to = cx.Empty({elements}, DType::kF32);
  Zero(from, cx.stream);
  const Timing time = Measure(5, cx.stream, [&] { Copy(from, to, cx.stream); });
  return 2.0 * static_cast<double>(from.view().bytes()) / (time.least * 1e-3);
}

// What a step reads of the weights: of the embedding a few rows, unless it is the head too; of the summaries' own their
// share, for a chunk has them read once.
int64_t WeightBytes(const ModelConfig& model, DType dtype) {
  double elements = 0.0;
  for (const ParameterSpec& spec : ParameterSpecs(model)) {
    const bool is_summary = spec.kind == ParameterKind::kSummaryAttention || spec.kind == ParameterKind::kSummaryNorm;
    const double share = is_summary ? 1.0 / model.ChunkSize() : 1.0;
    const bool few_rows = spec.kind == ParameterKind::kEmbedding && !model.tie_word_embeddings;
    elements += few_rows ? 0.0 : share * static_cast<double>(spec.shape.size());
  }
  return static_cast<int64_t>(elements) * SizeOf(dtype);
}

// Steps that are not timed: on a GPU those of each kind are different until the third.
int32_t WarmUp(const ModelConfig& model, const DecodeOptions& options) {
  return std::max(options.steps / 8, 2 * model.ChunkSize() + 1);
}

// A pass over a beginning that keeps nothing, and logits of its last token.
double TimeForward(const ExecContext& cx, KsaModel& model, Decoder& decoder, std::span<const int32_t> ids) {
  const auto start = std::chrono::steady_clock::now();
  const auto tokens = static_cast<int32_t>(ids.size());
  const Var hidden = model.Hidden(cx,
                                  {.ids = UploadNumbers(cx, {ids.begin(), ids.end()}, {tokens}),
                                   .layout = MakeLayout(model.config(), 1, tokens),
                                   .mix = 1.0});
  static_cast<void>(decoder.Logits(hidden.value.Rows(tokens - 1, 1)));
  return SecondsSince(start);
}

// Prefill of every sequence, then steps of all of them. `steps` of the length are decoded.
void TimeDecoding(Runtime& runtime, KsaModel& model, const DecodeOptions& options, DType dtype, DecodeRun& run) {
  const int32_t steps = options.steps;
  ExecContext cx = runtime.Context();
  CheckFits(PlanCaches(model.config(), run.batch, run.length, run.length, dtype), runtime);
  SometimesTracer tracer;
  if (options.trace) {
    cx.stream.tracer = &tracer;
  }
  const StepRecording recording = options.one_by_one ? StepRecording::kNever : StepRecording::kOnGpus;
  Decoder decoder(cx, model, {.sequences = run.batch, .tokens = run.length, .recording = recording}, 1.0);
  run.cache_bytes = decoder.CacheBytes();
  const int32_t timed = run.length - steps;
  const int32_t begin = timed - WarmUp(model.config(), options);
  run.prefilled = begin;
  std::vector<std::vector<int32_t>> ids;
  for (int32_t s = 0; s < run.batch; ++s) {
    ids.push_back(RandomIds(model.config(), run.length, s));
  }
  const auto prefill = [&](int32_t s) {
    const Tensor hidden = decoder.Prefill(s, std::span(ids[static_cast<size_t>(s)]).first(static_cast<size_t>(begin)));
    static_cast<void>(decoder.Logits(hidden));
  };
  prefill(0);  // takes memory from the system, and is not timed
  auto start = std::chrono::steady_clock::now();
  for (int32_t s = 0; s < run.batch; ++s) {
    prefill(s);
  }
  run.prefill_seconds = SecondsSince(start);
  run.forward_seconds = TimeForward(cx, model, decoder, std::span(ids[0]).first(static_cast<size_t>(begin)));
  const auto step = [&](int32_t i) {
    std::vector<Decoder::Next> next;
    for (int32_t s = 0; s < run.batch; ++s) {
      next.push_back({s, ids[static_cast<size_t>(s)][static_cast<size_t>(i)]});
    }
    static_cast<void>(decoder.Logits(decoder.Step(next)));
  };
  const int32_t end = run.length - (options.trace ? 1 : 0);
  for (int32_t i = begin; i < end; ++i) {
    if (i == timed) {
      start = std::chrono::steady_clock::now();
    }
    step(i);
  }
  run.step_seconds = SecondsSince(start) / (end - timed);
  if (options.trace) {
    QueueAhead(cx);
    tracer.Turn(true);
    step(end);
    tracer.Turn(false);
    tracer.Write(*options.trace);
  }
}

Table MakeTable() {
  return Table({{"pattern", "model", 0},
                {"text_tokens", "T", 0},
                {"batch", "batch", 0},
                {"prefill_tokens_per_second", "prefill tokens/s", 1},
                {"forward_tokens_per_second", "forward tokens/s", 1},
                {"tokens_per_second", "tokens/s", 1},
                {"milliseconds", "step ms", 3},
                {"weight_bytes", "weight bytes", 0},
                {"cache_bytes", "cache bytes", 0},
                {"bytes_read", "bytes a step", 0},
                {"copy_gb_per_second", "copy GB/s", 1},
                {"bandwidth_share", "share of bound %", 1}});
}

void AddRow(const DecodeRun& run, Table& table) {
  table.AddRow({run.pattern,
                int64_t{run.length},
                int64_t{run.batch},
                static_cast<double>(run.batch) * run.prefilled / run.prefill_seconds,
                run.prefilled / run.forward_seconds,
                run.batch / run.step_seconds,
                1e3 * run.step_seconds,
                run.weight_bytes,
                run.cache_bytes,
                static_cast<int64_t>(run.BytesRead()),
                1e-9 * run.copied_bytes_a_second,
                100.0 * run.BytesRead() / run.copied_bytes_a_second / run.step_seconds});
}

// A model at one length, with every batch.
void BenchLength(const DecodeOptions& options,
                 const std::vector<std::string>& more,
                 const std::string& pattern,
                 int32_t length,
                 BenchReport& report) {
  std::vector<std::string> sets = options.sets;
  sets.insert(sets.end(), more.begin(), more.end());
  sets.push_back(fmt::format("model.max_position_embeddings={}", length));
  const ModelConfig config = LoadModelConfig(options.model, length, sets);
  if (const int32_t warm_up = WarmUp(config, options); length <= options.steps + warm_up) {
    Fail(ExitCode::kUsage,
         "--length {}: its last {} tokens are timed (--steps), {} before them are not, and a beginning must be left",
         length,
         options.steps,
         warm_up);
  }
  const RuntimeOptions runtime_options = options.device.Options(options.precision.value_or(DType::kF32));
  const bool gpu = runtime_options.device == DeviceKind::kCuda;
  const DType dtype = options.precision.value_or(gpu ? DType::kBF16 : DType::kF32);
  const std::unique_ptr<Communicator> world = MakeSelfCommunicator();
  Runtime runtime(*world, runtime_options);
  ParameterStore store(
      ParameterSpecs(config), dtype, runtime.allocator(), FlatSharding{.weights_alone = true}, runtime.stream());
  store.Initialize(1234, runtime.stream());
  KsaModel model(config, store, runtime.allocator(), runtime.stream(), length);
  report.device = DeviceName(runtime);
  report.threads = runtime.stream().threads;
  const double copied = MeasureCopy(runtime);
  for (const int32_t batch : options.batches) {
    DecodeRun run = {.pattern = pattern,
                     .length = length,
                     .batch = batch,
                     .weight_bytes = WeightBytes(config, dtype),
                     .copied_bytes_a_second = copied};
    TimeDecoding(runtime, model, options, dtype, run);
    AddRow(run, report.table);
  }
}

void BenchDecode(const DecodeOptions& options) {
  BenchReport report = {"decode", {}, 1, MakeTable(), {}};
  for (const int32_t length : options.lengths) {
    BenchLength(options, {}, "as given", length, report);
    if (options.with_full) {
      BenchLength(options, {"model.attention.pattern=[full]"}, "full attention", length, report);
    }
  }
  Publish(report, options.json);
}

}  // namespace

void AddBenchDecodeCommand(CLI::App& bench) {
  const auto options = std::make_shared<DecodeOptions>();
  CLI::App* command = bench.add_subcommand("decode", "Decoding with caches, token by token");
  command->add_option("--model", options->model, "model configuration (YAML)")->required()->type_name("FILE");
  AddSetOption(*command, options->sets, "replace a value: model.key=value, as often as needed");
  command->add_option("--length", options->lengths, "tokens of a sequence at the end, one or several")
      ->required()
      ->check(WholeNumber(2, 1 << 24));
  command->add_option("--batch", options->batches, "sequences at a time, one or several")
      ->capture_default_str()
      ->check(WholeNumber(1, 1 << 16));
  command->add_option("--steps", options->steps, "tokens of a sequence that are timed")
      ->capture_default_str()
      ->check(WholeNumber(2, 1 << 20));
  command->add_option("--precision", options->precision, "what to compute in")
      ->transform(Choice<DType>({{"fp32", DType::kF32}, {"bf16", DType::kBF16}, {"fp64", DType::kF64}}))
      ->default_str("fp32 on the CPU, bf16 on a GPU");
  AddDeviceOption(*command, options->device);
  command->add_flag("--with-full", options->with_full, "also the same model with full attention in every layer");
  command->add_flag("--one-by-one",
                    options->one_by_one,
                    "on a GPU: queue each operation of a step by itself, in the place of one graph a step");
  command
      ->add_option("--trace",
                   options->trace,
                   "write the operations of the last step of the last sizes, with their times, for chrome://tracing; "
                   "implies --one-by-one")
      ->type_name("FILE");
  command->add_option("--json", options->json, "also write the results to this file")->type_name("FILE");
  command->footer(kExamples);
  command->callback([options] { BenchDecode(*options); });
}

}  // namespace ksa
