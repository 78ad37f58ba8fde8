// The CUDA side of attention: one call is a few kernels, of one or several implementations ("paths").
//
// Forward: text queries by the chosen path, summary queries (rows behind layout.text_rows() of q, when it has them) by
// SummaryForward. Backward, where no kernel adds to what another one wrote and nothing needs atomics:
//   delta = rowsum(dout · out) of all rows                                     OutputDelta
//   dq of text queries: holds queries, passes over their keys                  <path>::BackwardQueries
//   dq of summary queries                                                      SummaryBackwardQueries
//   dk, dv of text and summary keys: holds keys, passes over the text and the summary queries that see them, for all
//   query heads of the key/value head                                          <path>::BackwardKeys
// A call with summary queries alone leaves out what is the paths'; dk and dv are SummaryBackwardKeys's.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/attention/attention.h"
#include "kernels/attention/problem.h"

namespace ksa::cuda_attention {

// Below, tensors of queries (q, out, lse, dout, dq, delta) begin with row 0 of the layout also where it is no query:
// rows of q that are none (those outside of layout.Queries(), or all text when args.text_queries is false) have no
// memory and are not touched. Forward and Backward make such views of what a call holds; OutputDelta takes any rows.
//
// Text queries only; `args.q` may hold summary rows behind them, which are not touched.
namespace plain {
void ForwardText(const AttentionForwardArgs& args, const Stream& stream);
void BackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);
void BackwardKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);
}  // namespace plain

namespace mma {
[[nodiscard]] bool Supports(DType dtype, const HeadDims& dims, const Device& device);
void ForwardText(const AttentionForwardArgs& args, const Stream& stream);
void BackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);
void BackwardKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);
}  // namespace mma

namespace wgmma {
[[nodiscard]] bool Supports(DType dtype, const HeadDims& dims, const Device& device);
void ForwardText(const AttentionForwardArgs& args, const Stream& stream);
void BackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);
// `scratch` gives partial sums where a long row of queries is split (fixed order of additions).
void BackwardKeys(const AttentionBackwardArgs& args, const TensorView& delta, Allocator& scratch, const Stream& stream);
}  // namespace wgmma

// Text that sees all text before it, without documents and summaries; bf16, head dims 64, 128, and 192 with values of
// 128, at least 128 tokens.
// Supports is false in a build without cuDNN. The deterministic backward needs memory for all pairs of a head (see
// there) and is refused where that is too much.
//
// What looks possible cuDNN itself may still refuse, when its plan for the sizes is built. The calls then do nothing
// and return why; else the text returned is empty. Plans are kept a stream, kMostPlans at most.
namespace cudnn {
inline constexpr size_t kMostPlans = 32;

[[nodiscard]] bool Supports(const AttentionForwardArgs& args);
[[nodiscard]] bool Supports(const AttentionBackwardArgs& args, bool deterministic);
[[nodiscard]] std::string ForwardText(const AttentionForwardArgs& args, Allocator& scratch, const Stream& stream);
// Writes dq, dk and dv of the text rows as if there were no summary queries.
[[nodiscard]] std::string BackwardText(const AttentionBackwardArgs& args,
                                       Allocator& scratch,
                                       bool deterministic,
                                       const Stream& stream);

// For tests: as if cuDNN refused all sizes that the stream has no plan for yet. Error(kInternal) without cuDNN.
void RefuseNewPlans(const Stream& stream);
[[nodiscard]] size_t PlansOf(const Stream& stream);
}  // namespace cudnn

// delta [nq, h] fp32: the sum over c of dout · out.
void OutputDelta(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);

void SummaryForward(const AttentionForwardArgs& args, const Stream& stream);
void SummaryBackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);
// For layers whose text sees no summaries, after a kernel that knows text alone wrote dk and dv of the text keys: adds
// to them what the summary queries contribute, and writes dk and dv of the summary keys.
void SummaryAddToKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);
// Writes dk and dv of all keys where the summary queries are the only ones.
void SummaryBackwardKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);

void Forward(const AttentionForwardArgs& args, Allocator& scratch, const Stream& stream);
void Backward(const AttentionBackwardArgs& args, Allocator& scratch, const Stream& stream);

}  // namespace ksa::cuda_attention
