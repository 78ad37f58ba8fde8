// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/loss/linear_cross_entropy.h"

// The output matrix and the cross-entropy on the CPU. Targets are checked too.
namespace ksa::cpu {

// Logits are held for so many bytes' worth of rows at a time (at least one row).
inline constexpr int64_t kLogitBytes = int64_t{8} << 20;

template <typename T>
void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// The output matrix and the cross-entropy on a GPU, fp32 and bf16. Rows are taken in chunks of equal size, multiples of
// kRowStep, of at most kMostRows whose fp32 logits fill at most kLogitBytes (or kRowStep rows, where these are more);
// bf16 gradients lie beside them. A target >= v gives its row a NaN loss and NaN gradients. Of a vocabulary in parts,
// the chunks are those of its longest part.
namespace ksa::cuda {

// Products of 4096 rows run at full speed; of a vocabulary of 151936 they are 2.3 GiB.
inline constexpr int64_t kMostRows = 4096;
inline constexpr int64_t kLogitBytes = int64_t{5} << 29;
inline constexpr int64_t kRowStep = 128;

// Rows of a chunk, of n > 0.
[[nodiscard]] inline int64_t ChunkRows(int64_t n, int64_t vocabulary) {
  const int64_t fit = std::clamp(kLogitBytes / (4 * vocabulary) / kRowStep * kRowStep, kRowStep, kMostRows);
  const int64_t chunks = (n + fit - 1) / fit;
  const int64_t rows = (n + chunks - 1) / chunks;
  return std::min(n, (rows + kRowStep - 1) / kRowStep * kRowStep);
}

void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream);

}  // namespace ksa::cuda
