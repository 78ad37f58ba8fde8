#include "model/mixers/gdn/gdn_cache.h"

#include <vector>

#include "kernels/cache/move_rows.h"

namespace ksa {

GdnCache::GdnCache(const ExecContext& cx,
                   const CacheSpec& spec,
                   const Shape& state,
                   const Parameter* q_taps,
                   const Parameter* k_taps,
                   const Parameter* v_taps)
    : q(cx, spec, q_taps),
      k(cx, spec, k_taps),
      v(cx, spec, v_taps),
      states_(cx.Empty(state.WithRows(spec.slots), AccumulationType(spec.dtype))) {}

int64_t GdnCache::bytes() const {
  return q.bytes() + k.bytes() + v.bytes() + states_.view().bytes();
}

Tensor GdnCache::SlotsOf(const ExecContext& cx, const DecodeStep& step) {
  std::vector<int32_t> slots;
  for (const DecodeToken& token : step.tokens()) {
    slots.push_back(token.slot);
  }
  return UploadNumbers(cx, slots, {step.text_rows()});
}

Tensor GdnCache::Take(const ExecContext& cx, const DecodeStep& step) const {
  Tensor states = cx.Empty(states_.shape().WithRows(step.text_rows()), states_.dtype());
  MoveRows({.from = states_, .from_rows = SlotsOf(cx, step), .to = states}, cx.stream);
  return states;
}

void GdnCache::Keep(const ExecContext& cx, const DecodeStep& step, const Tensor& states) {
  MoveRows({.from = states, .to = states_, .to_rows = SlotsOf(cx, step)}, cx.stream);
}

}  // namespace ksa
