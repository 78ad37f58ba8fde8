// Softmax attention on segregated rows, for every layer kind: ksa, full, swa and sca differ in `window` alone.
//
// Shapes: h query heads, g key/value heads (query head i reads key/value head i / (h/g)), e head dim of queries and
// keys, c of values. Softmax is over all visible keys together, scale 1/sqrt(e) unless
// said otherwise.
//
// Rows are numbered as in SummaryLayout; nk and nq depend on which of them a call holds. k and v hold all rows of the
// layout, or the text rows only (allowed when no query sees a summary). q holds one of
//
//   all rows, or all text rows    a layout of whole sequences: every token of them is here
//   text rows alone (text call)   a layout of a part of one sequence, one run of chunks: q holds layout.query_rows()
//                                 rows, those of layout.Queries(), with text row query_begin first. The part must hold
//                                 all text that they see. Where text sees summaries they are gathered: k and v end with
//                                 those of the sequence's first live_chunks chunks (layout.gathered_summaries)
//   summary rows alone            with `text_queries` false (summary call): layout.summary_rows() rows, those behind
//                                 the text rows of k; any layout whose summaries are not gathered, also of two runs
//
// The text calls of parts whose queries make up a sequence, and the summary calls of parts that make it up, compute
// together what one call with all rows does; the sums of their dk and dv over all calls are its dk and dv.
//
// Every summary that `window` shows to text queries must have a row:
// layout.live_chunks >= LiveChunks(layout, window).
//
// Only tiles with visible pairs are visited. Scores, softmax and sums are kept in the accumulation type. A row that
// sees nothing (padding) has output exactly 0 and lse -infinity. No queries (nq = 0) are fine: dk and dv are then 0.
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
  kPlain,  // any head dims up to 1024, fp32 and bf16
  kMma,    // sm_80: mma.sync and cp.async; bf16, head dim 64 and 128, or keys of 192 with values of 128
  kWgmma,  // sm_90a: wgmma and TMA; bf16, head dim 64 and 128, or keys of 192 with values of 128
  kCudnn,  // full causal layers without documents; text queries by cuDNN; also keys of 192 with values of 128
};

// Whether this program holds the path. Which calls it can do, and on which GPU, is another question.
[[nodiscard]] bool AttentionPathIsBuilt(AttentionPath path);

struct AttentionForwardArgs {
  TensorView q;    // [nq, h, e]
  TensorView k;    // [nk, g, e]
  TensorView v;    // [nk, g, c]
  TensorView out;  // [nq, h, c] out
  TensorView lse;  // [nq, h] out, accumulation type: log of the sum of exponentials of the scaled scores
  SummaryLayout layout;
  AttentionWindow window;
  AttentionPath path = AttentionPath::kAuto;
  Allocator* allocator =
      nullptr;               // of scratch, which is freed before the call returns; null (CPU only): from the system
  bool text_queries = true;  // false: q holds the summary rows alone
  double scale = 0.0;        // of scores; 0: 1/sqrt(e)
};

void AttentionForward(const AttentionForwardArgs& args, const Stream& stream);

// The order of additions depends on the shapes alone: two calls agree in bits, whatever stream.threads is.
struct AttentionBackwardArgs {
  TensorView q;     // [nq, h, e]
  TensorView k;     // [nk, g, e]
  TensorView v;     // [nk, g, c]
  TensorView out;   // [nq, h, c]
  TensorView lse;   // [nq, h]
  TensorView dout;  // [nq, h, c]
  TensorView dq;    // [nq, h, e] out
  TensorView dk;    // [nk, g, e] out; rows that no query of this call sees get 0
  TensorView dv;    // [nk, g, c] out
  SummaryLayout layout;
  AttentionWindow window;
  AttentionPath path = AttentionPath::kAuto;
  Allocator* allocator = nullptr;  // as in forward
  bool text_queries = true;        // as in forward
  double scale = 0.0;              // as in forward
};

void AttentionBackward(const AttentionBackwardArgs& args, const Stream& stream);

}  // namespace ksa
