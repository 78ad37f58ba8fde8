#include "trainer/evaluate/bytes_per_target.h"

#include <algorithm>
#include <cstdint>

#include "trainer/evaluate/target_bytes.h"

namespace ksa {

std::optional<double> BytesPerTarget(const Dataset& dataset,
                                     size_t source,
                                     const EvenSamples& samples,
                                     const Tokenizer& tokenizer) {
  if (!tokenizer.SpellsText()) {
    return std::nullopt;
  }
  Batch batch;
  int64_t targets = 0;
  int64_t bytes = 0;
  for (int64_t j = 0; j < samples.taken; ++j) {
    dataset.MakeValidationBatch(source, samples, j, 1, batch);
    targets += std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t target) { return target >= 0; });
    bytes += TargetBytes(batch, tokenizer);
  }
  return bytes > 0 ? std::optional(static_cast<double>(bytes) / static_cast<double>(targets)) : std::nullopt;
}

}  // namespace ksa
