#include "trainer/evaluate/far_context.h"

#include <algorithm>
#include <vector>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// Leaves targets to the last `measured` rows of each sample.
void KeepLastTargets(Batch& batch, int64_t measured) {
  for (int32_t sample = 0; sample < batch.samples; ++sample) {
    const auto begin = batch.targets.begin() + int64_t{sample} * batch.sequence_length;
    std::fill(begin, begin + batch.sequence_length - measured, Batch::kNoTarget);
  }
}

bool BeginsWithText(const Batch& batch, int64_t rows) {
  return std::none_of(
      batch.targets.begin(), batch.targets.begin() + rows, [](int32_t target) { return target == Batch::kNoTarget; });
}

// Puts the beginning of another sample in front of sample `number`, which is the `i`-th of `batch`; `other` is scratch.
// Where no other is text all along (the last of a text may not be), its targets go.
void ReplaceBeginning(
    const MakeSamples& make, int64_t samples, int64_t number, int64_t i, int64_t kept, Batch& batch, Batch& other) {
  const int64_t replaced = batch.sequence_length - kept;
  for (int64_t step = 0; step < samples; ++step) {
    const int64_t donor = (number + samples / 2 + step) % samples;
    if (donor == number) {
      continue;
    }
    make(donor, 1, other);
    if (BeginsWithText(other, replaced)) {
      std::copy_n(other.inputs.begin(), replaced, batch.inputs.begin() + i * batch.sequence_length);
      return;
    }
  }
  const auto begin = batch.targets.begin() + i * batch.sequence_length;
  std::fill(begin, begin + batch.sequence_length, Batch::kNoTarget);
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
    const std::vector<int32_t> inputs = batch.inputs;
    for (int64_t i = 0; i < count; ++i) {
      ReplaceBeginning(make, samples, first + i, i, kept, batch, other);
    }
    batch.target_count =
        std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t target) { return target >= 0; });
    add(batch, first, replaced);
    batch.inputs = inputs;  // and as they are, the same targets
    add(batch, first, own);
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
