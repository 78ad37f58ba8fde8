#include "model/mixers/kept_taps.h"

#include <algorithm>
#include <vector>

#include "kernels/cache/move_rows.h"
#include "kernels/copy/elementwise.h"
#include "kernels/short_conv/short_conv.h"
#include "model/ops/rows.h"

namespace ksa {
KeptTaps::KeptTaps(const ExecContext& cx, const CacheSpec& spec, const Parameter* weight) {
  if (weight == nullptr || weight->value.shape[2] < 2) {
    return;
  }
  reach_ = static_cast<int32_t>(weight->value.shape[2]) - 1;
  rows_ = cx.Empty({int64_t{1} * spec.slots * reach_, weight->value.shape[0]}, spec.dtype);
}

void KeptTaps::KeepEnd(const ExecContext& cx, const Var& x, const MixerCall& call) {
  const int32_t tokens = call.layout.text_tokens;
  Zero(rows_.Rows(int64_t{1} * call.slot * reach_, reach_), cx.stream);
  std::vector<int32_t> from;
  std::vector<int32_t> to;
  for (int32_t i = std::max(0, tokens - reach_); i < tokens; ++i) {
    from.push_back(i);
    to.push_back(call.slot * reach_ + i % reach_);
  }
  const Shape shape = {static_cast<int64_t>(from.size())};
  MoveRows({.from = x.value,
            .from_rows = UploadNumbers(cx, from, shape),
            .to = rows_,
            .to_rows = UploadNumbers(cx, to, shape)},
           cx.stream);
}

Var KeptTaps::Convolve(const ExecContext& cx, const Var& x, const ShortConvSpec& spec, const MixerCall& call) {
  if (reach_ == 0 || call.step == nullptr) {
    if (reach_ > 0) {
      KeepEnd(cx, x, call);
    }
    return ShortConv(cx, x, spec);
  }
  const int64_t n = call.step->text_rows();
  const DecodeStep::TapRows& rows = call.step->TapRowsOf(reach_);
  const Tensor before = cx.Empty({n * reach_, x.cols()}, x.value.dtype());
  MoveRows({.from = rows_, .from_rows = rows.before, .to = before}, cx.stream);
  const Tensor text = x.value.Rows(0, n);
  Tensor y = cx.Empty(text.shape(), text.dtype());
  // Rows before a sequence's first token are zeros.
  ShortConvForward({.x = text,
                    .halo = before,
                    .weight = spec.weight->value,
                    .y = y,
                    .layout = call.step->OneTokenEach(),
                    .form = spec.form},
                   cx.stream);
  MoveRows({.from = text, .to = rows_, .to_rows = rows.own}, cx.stream);
  const Var convolved = Result(cx, std::move(y), x.placement);
  return x.rows() == n ? convolved : StackRows(cx, convolved, Rows(cx, x, n, x.rows() - n));
}

}  // namespace ksa
