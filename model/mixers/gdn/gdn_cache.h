// What a layer of gdn keeps while decoding: the state of each sequence, and the last rows before its convolutions.
#pragma once

#include <cstdint>

#include "model/mixers/decode.h"
#include "model/mixers/kept_taps.h"
#include "model/mixers/mixer.h"

namespace ksa {

class GdnCache final : public LayerCache {
 public:
  // `state`: of a sequence, [1, hv, dk, dv]. The taps are those of q, k and v.
  GdnCache(const ExecContext& cx,
           const CacheSpec& spec,
           const Shape& state,
           const Parameter* q,
           const Parameter* k,
           const Parameter* v);

  [[nodiscard]] int64_t bytes() const override;

  KeptTaps q;
  KeptTaps k;
  KeptTaps v;

  // The state that a whole sequence leaves in its slot, to be written.
  [[nodiscard]] TensorView StateOf(int32_t slot) const { return states_.Rows(slot, 1); }

  // Those of a step's sequences, in its order; and back into their slots.
  [[nodiscard]] Tensor Take(const ExecContext& cx, const DecodeStep& step) const;
  void Keep(const ExecContext& cx, const DecodeStep& step, const Tensor& states);

 private:
  [[nodiscard]] static Tensor SlotsOf(const ExecContext& cx, const DecodeStep& step);

  Tensor states_;  // [slots, hv, dk, dv], accumulation type
};

}  // namespace ksa
