#include "model/ksa/forward_counter.h"

#include <string_view>

#include "kernels/attention/pairs.h"
#include "model/ksa/parameters.h"
#include "model/ksa/work_log.h"

namespace ksa {
namespace {

constexpr Stream kDry = {.device = {DeviceKind::kCuda, 0}, .dry = true};

// Of attention's operations, of which those with summary queries see `summary_pairs` pairs of live ones.
int64_t AttentionFlops(const OpWork& work, int64_t summary_pairs) {
  const int64_t pairs = work.text_pairs + work.summary_pairs;
  return pairs == 0 ? 0 : work.useful / pairs * (work.text_pairs + (work.summary_pairs > 0 ? summary_pairs : 0));
}

}  // namespace

ForwardCounter::ForwardCounter(const ModelConfig& config, int64_t positions)
    : config_(config),
      stream_(kDry),
      slabs_(stream_.device),
      memory_(slabs_),
      store_(ParameterSpecs(config), DType::kBF16, memory_, {}, stream_),
      model_(config, store_, memory_, stream_, positions),
      row_(Run(MakeLayout(config, 1, 1), 0)) {}

ForwardCounter::Sums ForwardCounter::Run(const SummaryLayout& layout, int64_t summary_pairs) {
  WorkLog log;
  ExecContext cx = {.stream = stream_, .allocator = &memory_};
  cx.stream.tracer = &log;
  const Tensor ids = cx.Empty({layout.text_rows()}, DType::kI32);
  const Var hidden = model_.Hidden(cx, {.ids = ids, .layout = layout});
  static_cast<void>(model_.Loss(cx, hidden, ids, 1.0));
  Sums sums;
  for (const StepEvent& event : log.events()) {
    const OpWork& work = event.work;
    if (work.kind == WorkKind::kAttentionForward) {
      sums.attention += AttentionFlops(work, summary_pairs);
      sums.text_pairs += work.text_pairs;
    } else if (event.op == std::string_view("LinearCrossEntropy")) {
      sums.head += work.useful;
    } else {
      sums.products += work.useful;
    }
  }
  return sums;
}

// All but attention is the same for every row of its kind: what a text row takes is known from a pass over one, and
// what is left of this pass is the summaries', or where there are none that of rows which are pooled.
ForwardFlops ForwardCounter::Count(const SummaryLayout& layout) {
  const int64_t text = CountTextTokens(layout);
  const LiveSummaries live = CountLiveSummaries(layout, config_.MinKsaWindow());
  const Sums sums = Run(layout, live.pairs);
  const int64_t rest = sums.products - layout.text_rows() * row_.products;
  ForwardFlops flops;
  flops.linear = static_cast<double>(row_.products * text);
  flops.head = static_cast<double>(row_.head * text);
  flops.attention = static_cast<double>(sums.attention);
  flops.text_pairs = static_cast<double>(sums.text_pairs);
  if (layout.summary_rows() > 0) {
    flops.summary_linear = static_cast<double>(rest / layout.summary_rows() * live.rows);
  } else {
    flops.linear += static_cast<double>(rest);
  }
  return flops;
}

}  // namespace ksa
