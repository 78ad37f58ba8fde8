#include "data/loader/text_samples.h"

#include <algorithm>
#include <span>
#include <utility>

#include "data/loader/batch_rows.h"
#include "kernels/core/error.h"

namespace ksa {

TextSamples::TextSamples(std::vector<int32_t> tokens, const DatasetConfig& config)
    : tokens_(std::move(tokens)), config_(config) {
  KSA_CHECK(tokens_.size() >= 2 && config.sequence_length >= 1 && config.chunk_size >= 1,
            "{} tokens as samples of {}",
            tokens_.size(),
            config.sequence_length);
}

int64_t TextSamples::samples() const {
  const auto targets = static_cast<int64_t>(tokens_.size()) - 1;
  return (targets + config_.sequence_length - 1) / config_.sequence_length;
}

void TextSamples::MakeBatch(const EvenSamples& taken, int64_t first, int64_t count, Batch& batch) const {
  KSA_CHECK(taken.there == samples() && first + count <= taken.taken,
            "samples {} to {} of {}, spread over {}",
            first,
            first + count,
            taken.taken,
            taken.there);
  ResizeBatch(first, count, config_, batch);
  const int64_t length = config_.sequence_length;
  std::vector<int32_t> window(static_cast<size_t>(length) + 1);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = taken.At(first + i) * length;
    const int64_t real = std::min<int64_t>(length + 1, static_cast<int64_t>(tokens_.size()) - begin);
    std::fill(std::copy_n(tokens_.begin() + begin, real, window.begin()), window.end(), 0);
    // What fills the window up is a document of its own, whose rows have no target.
    const std::span<const int64_t> starts = real <= length ? std::span(&real, 1) : std::span<const int64_t>();
    static_cast<void>(FillRows(window, starts, config_, i, batch));
    const std::span<int32_t> targets = TargetsOf(batch, i);
    std::fill(targets.begin() + (real - 1), targets.end(), Batch::kNoTarget);
    batch.target_count += real - 1;
  }
}

}  // namespace ksa
