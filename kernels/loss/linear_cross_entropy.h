// The output matrix and the cross-entropy in one: logits = x W^T, loss = sum over rows with a target of
//
//   lm · (logsumexp(logits) - logits[target]) + kl · KL(softmax(teacher's logits) || softmax(logits)) + z · logsumexp²
//
// with the weights of LossWeights; the teacher's logits are teacher_x W^T, and no gradient goes there. Rows are taken
// in chunks, of at most 4096 on a GPU, so that the [n, v] logits of many rows never exist at once.
//
// Shapes: n rows, d model dim, v vocabulary (columns past the real vocabulary, if W has any, take part).
// A target < 0 is no target: no loss and no gradient. A target >= v is an Error(kBadData); on a GPU, where nobody can
// look at it without waiting, it gives NaN for the row's loss and gradient.
//
// W's rows may be spread over several parts (VocabularyShard). Each part calls with its own rows of W, v of them, and
// the same x, targets and grad_scale. The loss is then the whole vocabulary's, with the same bits on all parts; dx is a
// part's share of a sum over the parts, dweight are the gradients of its rows.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Rows [first_id, first_id + v) of the output matrix of a vocabulary of `vocab` ids, one part of `parts`.
struct VocabularyShard {
  int64_t first_id = 0;
  int64_t vocab = 0;  // 0: weight holds the whole vocabulary
  int part = 0;
  int parts = 1;
  // Called once for each chunk of rows, the same chunks on all parts. stats [parts, rows, 3], accumulation type:
  // stats[part] holds this part's largest logit of each row, its sum of exponentials relative to it, and the target's
  // logit or 0; with further terms [parts, rows, 6], then also the teacher's largest logit, its sum of exponentials
  // relative to that, and the sum of these times how far the teacher's logits are above. Makes those of all parts
  // present, as far as later work of the same stream can see (an all-gather in place). Needed when parts > 1; also
  // called on dry streams, where it must read nothing.
  std::function<void(const TensorView& stats)> gather_stats{};
};

struct LossWeights {
  double lm = 1.0;
  double kl = 0.0;  // needs a teacher
  double z = 0.0;
};

struct LinearCrossEntropyArgs {
  TensorView x;           // [n, d]
  TensorView weight;      // [v, d]
  TensorView targets;     // [n] int32
  TensorView row_loss{};  // [n] out, accumulation type, 0 for rows without target; or empty
  // [n] out, accumulation type, or empty; of passes without gradients and further terms. The target's logit minus the
  // row's largest: 0 where the target is the likeliest id (or ties with it), negative where another one is, NaN where a
  // logit is; 0 for rows without target.
  TensorView margin{};
  TensorView loss_sum;  // [1] fp64, added to: the sum over rows, in row order (GPU: a fixed order)
  LossWeights weights{};
  TensorView teacher_x{};  // [n, d]; empty: no teacher
  TensorView term_sums{};  // [3] fp64, added to: sums over rows of the three terms without their weights; or empty
  TensorView largest{};    // [1] fp64, raised to the largest logit of rows with a target; or empty
  // Gradients of grad_scale · loss_sum; leave dx empty for the loss alone.
  TensorView dx{};         // [n, d] out, or empty
  TensorView dweight{};    // [v, d] accumulation type; or empty: only dx is wanted
  bool accumulate = true;  // add to dweight, or write it
  double grad_scale = 1.0;
  VocabularyShard shard{};
  // Scratch is taken for so many rows if x has fewer, so that memory does not depend on how many there are; 0: x's.
  int64_t most_rows = 0;
  // Scratch memory for the logits of a chunk of rows comes from here.
  Allocator* allocator = nullptr;
};

// Ids of the whole vocabulary, and of its longest part when it is cut evenly: chunks of rows follow from it, so that
// they are the same on all parts.
[[nodiscard]] inline int64_t VocabularyOf(const LinearCrossEntropyArgs& args) {
  return args.shard.vocab > 0 ? args.shard.vocab : args.weight.rows();
}

[[nodiscard]] inline int64_t LongestPartOf(const LinearCrossEntropyArgs& args) {
  return (VocabularyOf(args) + args.shard.parts - 1) / args.shard.parts;
}

// Whether there is more than the cross-entropy, and how many numbers a row the parts of a vocabulary then exchange.
[[nodiscard]] inline bool HasFurtherTerms(const LinearCrossEntropyArgs& args) {
  return !args.teacher_x.empty() || args.weights.z != 0.0 || args.weights.lm != 1.0;
}

[[nodiscard]] inline int64_t StatisticsOfRow(const LinearCrossEntropyArgs& args) {
  return HasFurtherTerms(args) ? 6 : 3;
}

void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream);

}  // namespace ksa
