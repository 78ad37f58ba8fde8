// Scratch of the gated delta rule on a GPU, and on a dry stream. All in fp32; h value heads, dk and dv head dims, and
// chunks of 64 rows of all slices, the last one of a slice filled up with rows that do nothing.
#pragma once

#include <cstdint>

#include "kernels/core/checks.h"
#include "kernels/core/tensor.h"
#include "kernels/delta_rule/gated_delta_rule.h"
#include "kernels/delta_rule/slice.h"

namespace ksa::delta_rule {

// Of a head, that kernels of a GPU take.
inline constexpr int64_t kMostKeyColumns = 128;

// The columns that kernels fill keys up to, with zeros.
[[nodiscard]] inline int64_t FilledKeys(int64_t dk) {
  return dk <= 64 ? 64 : kMostKeyColumns;
}

// Numbers of a chunk and head in scratch: beta of its rows, then what is kept of the state; a multiple of 16 bytes.
inline constexpr int64_t kChunkNumbers = kChunkRows + 4;

// Chunks of a sequence, and those of its first slice.
struct ChunkCounts {
  int32_t first = 0;
  int32_t all = 0;

  KSA_HOST_DEVICE explicit ChunkCounts(const SummaryLayout& layout) {
    first = Slice(layout, 0).chunks();
    all = first + (SlicesOfSequence(layout) == 2 ? Slice(layout, 1).chunks() : 0);
  }
};

[[nodiscard]] inline int64_t ChunkCount(const SummaryLayout& layout) {
  return int64_t{1} * layout.sequences * ChunkCounts(layout).all;
}

// What a pass over the chunks leaves for the ones behind it.
struct RuleScratch {
  Tensor inverse;  // [chunks, h, 64, 64]: of the system of a chunk's writes
  Tensor w;        // [chunks, h, 64, filled dk]
  Tensor keys;     // [chunks, h, 64, filled dk]: as they are added to the state that leaves
  Tensor numbers;  // [chunks, h, kChunkNumbers]
  Tensor e;        // [chunks, h, 64, dv]: first the part without the state; then v minus what the state predicts
  Tensor states;   // [chunks, h, dk, dv]: what comes in

  // Of gradients.
  Tensor writes;           // [chunks, h, 64, dv]: of the writes; first the part through the same chunk's rows
  Tensor reads;            // [chunks, h, dk, dv]: of the states that come in, through the rows that read them
  Tensor state_gradients;  // [chunks, h, dk, dv]: of what leaves
  Tensor dq;               // [chunks, h, 64, dk]: of each value head by itself
  Tensor dk;
};

// `values`: columns of v, 0: there are none. `reads`: states are read again, by outputs or by gradients.
template <typename Args>
[[nodiscard]] RuleScratch ForwardScratch(const char* op, const Args& args, int64_t values, bool reads) {
  Allocator& memory = RequireScratch(op, args.allocator);
  const int64_t heads = ChunkCount(args.layout);
  const int64_t h = args.g.shape[1];
  const int64_t dk = args.k.shape[2];
  const auto take = [&](int64_t rows, int64_t columns) {
    return Tensor::Empty({heads * h, rows, columns}, DType::kF32, memory);
  };
  RuleScratch scratch;
  scratch.inverse = take(kChunkRows, kChunkRows);
  scratch.w = take(kChunkRows, FilledKeys(dk));
  scratch.keys = take(kChunkRows, FilledKeys(dk));
  scratch.numbers = take(1, kChunkNumbers);
  if (values > 0) {
    scratch.e = take(kChunkRows, values);
  }
  if (reads) {
    scratch.states = take(dk, values);
  }
  return scratch;
}

[[nodiscard]] inline RuleScratch BackwardScratch(const GatedDeltaRuleBackwardArgs& args) {
  const int64_t dk = args.k.shape[2];
  const int64_t dv = args.v.shape[2];
  const bool all = !args.dq.empty();
  RuleScratch scratch = ForwardScratch("GatedDeltaRuleBackward", args, dv, all);
  Allocator& memory = *args.allocator;
  const int64_t count = ChunkCount(args.layout) * args.g.shape[1];
  scratch.writes = Tensor::Empty({count, kChunkRows, dv}, DType::kF32, memory);
  scratch.reads = Tensor::Empty({count, dk, dv}, DType::kF32, memory);
  if (all) {
    scratch.state_gradients = Tensor::Empty({count, dk, dv}, DType::kF32, memory);
    scratch.dq = Tensor::Empty({count, kChunkRows, dk}, DType::kF32, memory);
    scratch.dk = Tensor::Empty({count, kChunkRows, dk}, DType::kF32, memory);
  }
  return scratch;
}

}  // namespace ksa::delta_rule
