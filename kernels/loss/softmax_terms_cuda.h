// Losses of several terms and their gradient on a GPU, of rows of logits of which a GPU holds some columns or all:
// first what the parts of a vocabulary tell each other of each row, then the rest
// (kernels/loss/linear_cross_entropy.h).
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"
#include "kernels/loss/linear_cross_entropy.h"
#include "kernels/loss/softmax_rows_cuda.h"

namespace ksa::cuda {

struct SoftmaxTermsArgs {
  SoftmaxRowsArgs rows;  // losses: the weighted sum of the terms
  TensorView teacher;    // [n, v] fp32 logits; or empty
  // [parts, n, 6] fp32: a row's largest logit, sum of exponentials, target's logit or 0; the teacher's largest logit,
  // sum of exponentials, and sum of these times (teacher's logit - logit)
  TensorView stats;
  float* terms;  // [3, n] out, rows `term_stride` apart: cross-entropy, divergence, squared logsumexp
  int64_t term_stride = 0;
  int64_t first_id = 0;    // of column 0
  int64_t vocabulary = 0;  // targets beyond it: NaN
  int part = 0;
  LossWeights weights;
};

// Writes stats[part].
void TermStatistics(const SoftmaxTermsArgs& args, const Stream& stream);

// Joins all stats in the order of the parts and writes losses, terms and gradient.
void FinishTerms(const SoftmaxTermsArgs& args, const Stream& stream);

}  // namespace ksa::cuda
