#include "kernels/core/philox.h"

#include <cmath>
#include <numbers>

#include <Random123/philox.h>
#include <xxhash.h>

namespace ksa {
namespace {

uint32_t Low(uint64_t x) {
  return static_cast<uint32_t>(x);
}

uint32_t High(uint64_t x) {
  return static_cast<uint32_t>(x >> 32U);
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(uint64_t key, uint64_t counter, uint64_t stream) {
  const r123::Philox4x32 philox;
  const r123::Philox4x32::ctr_type c = {{Low(counter), High(counter), Low(stream), High(stream)}};
  const r123::Philox4x32::key_type k = {{Low(key), High(key)}};
  const r123::Philox4x32::ctr_type r = philox(c, k);
  return {r[0], r[1], r[2], r[3]};
}

uint64_t NamedKey(uint64_t seed, std::string_view name) {
  return XXH3_64bits_withSeed(name.data(), name.size(), seed);
}

double NormalAt(uint64_t key, uint64_t index) {
  const std::array<uint32_t, 4> bits = Philox4x32(key, index);
  const uint64_t a = (static_cast<uint64_t>(bits[0]) << 32U) | bits[1];
  const uint64_t b = (static_cast<uint64_t>(bits[2]) << 32U) | bits[3];
  // 53-bit uniforms; the first in (0, 1] so that its logarithm is finite.
  const double u = (static_cast<double>(a >> 11U) + 1.0) * 0x1p-53;
  const double v = static_cast<double>(b >> 11U) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace ksa
