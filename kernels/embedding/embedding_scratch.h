// Scratch of the embedding's backward on a GPU, and on a dry stream.
#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"
#include "kernels/embedding/embedding.h"

namespace ksa {

// Rows of a sum that one block adds up.
inline constexpr int kEmbeddingRange = 32;

[[nodiscard]] inline int64_t EmbeddingRanges(int64_t rows) {
  return (rows + kEmbeddingRange - 1) / kEmbeddingRange;
}

// Which summaries' gradients are wanted here: [begin, end).
[[nodiscard]] inline Range WantedSummaries(const EmbeddingBackwardArgs& args) {
  if (args.summaries.first_id == SummaryStart::kOwnTable) {
    return {0, args.dsummary_table.empty() ? 0 : args.layout.summary_tokens};
  }
  return SummariesInTable(args.summaries, args.layout, args.shard, args.dtable.rows());
}

// While the text's gradients are summed.
struct EmbeddingTextScratch {
  Tensor order;  // [2, text rows, 2] int32: rows in the order of their ids
  Tensor parts;  // [2, EmbeddingRanges, d] fp32: of ids that reach over the borders of ranges
};

[[nodiscard]] inline EmbeddingTextScratch TakeEmbeddingTextScratch(const EmbeddingBackwardArgs& args,
                                                                   Allocator& scratch) {
  const int64_t n = args.layout.text_rows();
  EmbeddingTextScratch taken;
  taken.order = Tensor::Empty({2, n, 2}, DType::kI32, scratch);
  taken.parts = Tensor::Empty({2, EmbeddingRanges(n), args.dy.cols()}, DType::kF32, scratch);
  return taken;
}

// After that, while those of summaries are: [wanted, EmbeddingRanges of the chunks, d] fp32; empty where none is
// wanted.
[[nodiscard]] inline Tensor EmbeddingSummaryPartials(const EmbeddingBackwardArgs& args, Allocator& scratch) {
  const int64_t wanted = WantedSummaries(args).size();
  if (args.layout.summary_rows() == 0 || wanted == 0) {
    return {};
  }
  const int64_t chunks = args.layout.summary_rows() / args.layout.summary_tokens;
  return Tensor::Empty({wanted, EmbeddingRanges(chunks), args.dy.cols()}, DType::kF32, scratch);
}

}  // namespace ksa
