#include "data/sampling/permutation.h"

#include <algorithm>
#include <array>
#include <bit>

#include "kernels/core/error.h"
#include "kernels/core/philox.h"

namespace ksa {
namespace {

constexpr uint64_t kRounds = 6;

uint64_t Encipher(uint64_t key, int half_bits, uint64_t x) {
  const uint64_t mask = (uint64_t{1} << static_cast<unsigned>(half_bits)) - 1;
  uint64_t left = x >> static_cast<unsigned>(half_bits);
  uint64_t right = x & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const std::array<uint32_t, 4> bits = Philox4x32(key, right, round);
    const uint64_t value = (uint64_t{bits[1]} << 32U) | bits[0];
    const uint64_t next = left ^ (value & mask);
    left = right;
    right = next;
  }
  return (left << static_cast<unsigned>(half_bits)) | right;
}

}  // namespace

int64_t Permute(uint64_t key, int64_t n, int64_t x) {
  KSA_CHECK(0 <= x && x < n && n <= (int64_t{1} << 62), "element {} of a permutation of {}", x, n);
  const auto size = static_cast<uint64_t>(n);
  const int half_bits = std::max(1, (static_cast<int>(std::bit_width(size - 1)) + 1) / 2);
  uint64_t y = static_cast<uint64_t>(x);
  do {
    y = Encipher(key, half_bits, y);
  } while (y >= size);
  return static_cast<int64_t>(y);
}

}  // namespace ksa
