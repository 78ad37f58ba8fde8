// The last rows that went into a convolution along the text: what it needs of the past while decoding.
#pragma once

#include <cstdint>

#include "model/autograd/parameter.h"
#include "model/mixers/decode.h"
#include "model/mixers/mixer.h"
#include "model/ops/short_conv.h"

namespace ksa {

class KeptTaps {
 public:
  KeptTaps() = default;  // of no convolution

  // `weight` [c, 1, K] or null: no convolution.
  KeptTaps(const ExecContext& cx, const CacheSpec& spec, const Parameter* weight);

  [[nodiscard]] int64_t bytes() const { return rows_.empty() ? 0 : rows_.view().bytes(); }

  // ShortConv of the rows of a call, summary rows unchanged, and what comes after them will read is kept.
  [[nodiscard]] Var Convolve(const ExecContext& cx, const Var& x, const ShortConvSpec& spec, const MixerCall& call);

 private:
  void KeepEnd(const ExecContext& cx, const Var& x, const MixerCall& call);

  int32_t reach_ = 0;  // K - 1
  Tensor rows_;        // [slots · reach, c], a ring a slot
};

}  // namespace ksa
