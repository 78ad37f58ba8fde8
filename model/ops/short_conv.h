// A short causal convolution along the text; see kernels/short_conv/short_conv.h.
#pragma once

#include "kernels/core/summary_layout.h"
#include "kernels/short_conv/short_conv.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

struct ShortConvSpec {
  SummaryLayout layout;         // of the rows that are here
  SummaryLayout whole;          // of whole sequences; read where they are spread over ranks
  Parameter* weight = nullptr;  // [c, 1, K]
  ConvForm form = ConvForm::kResidual;
};

// x [n, c], all rows of the layout or its text -> the same shape. Tensor axis: x Sharded(1) with a weight Sharded(0),
// or x Entered with a Replicated weight, whose gradient is partial there; passed on. Where context ranks share
// sequences, the K - 1 rows before each run come from their owners, and the gradients of these rows go back to them.
[[nodiscard]] Var ShortConv(const ExecContext& cx, const Var& x, const ShortConvSpec& spec);

}  // namespace ksa
