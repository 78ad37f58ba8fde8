#include "trainer/evaluate/bytes_per_target.h"

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// The targets of one sample, those that are none left out.
void TargetsOf(const Batch& batch, int64_t sample, std::vector<int32_t>& targets) {
  targets.clear();
  const int64_t length = batch.sequence_length;
  for (const int32_t target :
       std::span(batch.targets).subspan(static_cast<size_t>(sample * length), static_cast<size_t>(length))) {
    if (target != Batch::kNoTarget) {
      targets.push_back(target);
    }
  }
}

}  // namespace

bool KnowsText(const Tokenizer& tokenizer) {
  try {
    std::vector<int32_t> ids;
    tokenizer.Encode("a", ids);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::optional<double> BytesPerTarget(const Dataset& dataset,
                                     size_t source,
                                     const EvenSamples& samples,
                                     const Tokenizer& tokenizer) {
  if (!KnowsText(tokenizer)) {
    return std::nullopt;
  }
  Batch batch;
  std::vector<int32_t> targets;
  int64_t count = 0;
  int64_t bytes = 0;
  for (int64_t j = 0; j < samples.taken; ++j) {
    dataset.MakeValidationBatch(source, samples, j, 1, batch);
    TargetsOf(batch, 0, targets);
    count += static_cast<int64_t>(targets.size());
    bytes += static_cast<int64_t>(tokenizer.Decode(targets).size());
  }
  return bytes > 0 ? std::optional(static_cast<double>(bytes) / static_cast<double>(count)) : std::nullopt;
}

}  // namespace ksa
