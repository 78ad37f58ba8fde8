// The plain path by rows: what the summary kernels fall back to for types and head dims without a kernel of their own.
#pragma once

#include "kernels/attention/attention.h"

namespace ksa::cuda_attention::plain {

// Rows [first, first + count) of q, text or summaries.
void ForwardRows(const AttentionForwardArgs& args, int64_t first, int64_t count, const Stream& stream);
void BackwardQueryRows(
    const AttentionBackwardArgs& args, const TensorView& delta, int64_t first, int64_t count, const Stream& stream);

// Adds what the summary queries contribute to dk and dv of the text keys, and writes dk and dv of the summary keys.
void AddSummaryQueriesToKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream);

}  // namespace ksa::cuda_attention::plain
