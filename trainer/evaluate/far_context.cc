#include "trainer/evaluate/far_context.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// Leaves targets to the last `measured` rows of each sample.
void KeepLastTargets(Batch& batch, int64_t measured) {
  batch.target_count = 0;
  for (int32_t sample = 0; sample < batch.samples; ++sample) {
    const auto begin = batch.targets.begin() + int64_t{sample} * batch.sequence_length;
    std::fill(begin, begin + batch.sequence_length - measured, Batch::kNoTarget);
    batch.target_count +=
        measured -
        std::count(begin + batch.sequence_length - measured, begin + batch.sequence_length, Batch::kNoTarget);
  }
}

}  // namespace

FarContextLoss MeasureFarContext(int64_t samples,
                                 int32_t sequence_length,
                                 int64_t kept,
                                 int32_t batch_size,
                                 const MakeSamples& make,
                                 const AddLosses& add) {
  KSA_CHECK(samples >= 2 && kept >= 2 && kept < sequence_length,
            "the end of {} tokens of {} samples of {}",
            kept,
            samples,
            sequence_length);
  EvaluationSums own(sequence_length, samples);
  EvaluationSums replaced(sequence_length, samples);
  Batch batch;
  Batch other;
  for (int64_t first = 0; first < samples; first += batch_size) {
    const int64_t count = std::min<int64_t>(batch_size, samples - first);
    make(first, count, batch);
    KSA_CHECK(batch.chunk_tokens.empty(), "documents of their own have no far context to replace");
    KeepLastTargets(batch, kept / 2);
    add(batch, first, own);
    for (int64_t i = 0; i < count; ++i) {
      make((first + i + samples / 2) % samples, 1, other);
      std::copy_n(other.inputs.begin(), sequence_length - kept, batch.inputs.begin() + i * sequence_length);
    }
    add(batch, first, replaced);
  }
  EvaluationSums difference = replaced;
  difference.loss -= own.loss;
  for (size_t i = 0; i < difference.sample_loss.size(); ++i) {
    difference.sample_loss[i] -= own.sample_loss[i];
  }
  return {.kept = kept,
          .targets = own.targets,
          .loss = own.MeanLoss(),
          .loss_replaced = replaced.MeanLoss(),
          .error = difference.StandardError()};
}

}  // namespace ksa
