// Softmax attention on segregated rows, for every layer kind: ksa, full, swa and sca differ in `window` alone.
//
// Shapes: h query heads, g key/value heads (query head i reads key/value head i / (h/g)), e head dim. Rows as in
// SummaryLayout: q holds all rows of the layout, or its text rows only (then summary queries are skipped); k and v hold
// all rows, or the text rows only (allowed when no query sees a summary: window.summaries is false and q has text rows
// only). Softmax is over all visible keys together, scale 1/sqrt(e).
//
// Every summary that `window` shows must have a row: layout.live_chunks >= LiveChunks(chunks, window.chunks).
//
// Only tiles with visible pairs are visited. Scores, softmax and sums are kept in the accumulation type. A row that
// sees nothing (padding) has output exactly 0 and lse -infinity.
#pragma once

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Which implementation runs on a GPU. kAuto takes the fastest that can do the call; naming one that cannot is an Error
// (kInternal). For benchmarks and tests; the CPU has one and takes kAuto only.
enum class AttentionPath : int {
  kAuto,
  kPlain,  // any head dim up to 1024, fp32 and bf16
  kMma,    // sm_80: mma.sync and cp.async; bf16, head dim 64 and 128
  kWgmma,  // sm_90a: wgmma and TMA; bf16, head dim 64 and 128
  kCudnn,  // full causal layers without documents; text queries by cuDNN
};

// Whether this program holds the path. Which calls it can do, and on which GPU, is another question.
[[nodiscard]] bool AttentionPathIsBuilt(AttentionPath path);

struct AttentionForwardArgs {
  TensorView q;    // [nq, h, e]
  TensorView k;    // [nk, g, e]
  TensorView v;    // [nk, g, e]
  TensorView out;  // [nq, h, e] out
  TensorView lse;  // [nq, h] out, accumulation type: log of the sum of exponentials of the scaled scores
  SummaryLayout layout;
  AttentionWindow window;
  AttentionPath path = AttentionPath::kAuto;
  Allocator* allocator =
      nullptr;  // of scratch, which is freed before the call returns; null (CPU only): from the system
};

void AttentionForward(const AttentionForwardArgs& args, const Stream& stream);

// The order of additions depends on the shapes alone: two calls agree in bits, whatever stream.threads is.
struct AttentionBackwardArgs {
  TensorView q;     // [nq, h, e]
  TensorView k;     // [nk, g, e]
  TensorView v;     // [nk, g, e]
  TensorView out;   // [nq, h, e]
  TensorView lse;   // [nq, h]
  TensorView dout;  // [nq, h, e]
  TensorView dq;    // [nq, h, e] out
  TensorView dk;    // [nk, g, e] out; rows that nobody sees get 0
  TensorView dv;    // [nk, g, e] out
  SummaryLayout layout;
  AttentionWindow window;
  AttentionPath path = AttentionPath::kAuto;
  Allocator* allocator = nullptr;  // as in forward
};

void AttentionBackward(const AttentionBackwardArgs& args, const Stream& stream);

}  // namespace ksa
