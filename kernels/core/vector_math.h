// Inline arithmetic that g++ turns into vector instructions without -ffast-math.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace ksa {

// exp(x), relative error below 1e-7 where the result is a normal number. Overflow gives infinity, underflow 0 or a
// denormal number, NaN stays NaN.
[[nodiscard]] inline float Exp(float x) {
  // Beyond these bounds the answer is infinity or 0 anyway. Written so that NaN passes.
  x = 89.0F < x ? 89.0F : x;
  x = -104.0F > x ? -104.0F : x;
  // x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 · 2^23 rounds to the nearest integer and leaves it in the low bits.
  constexpr float kRound = 12582912.0F;
  const float shifted = std::fma(x, 1.44269504088896341F, kRound);
  const float n = shifted - kRound;
  float r = std::fma(n, -0.693359375F, x);  // ln 2 in two parts; the product with the first is exact
  r = std::fma(n, 2.12194440e-4F, r);
  // exp(r) by its series up to r^7, whose rest is below 6e-9.
  float p = 1.0F / 5040.0F;
  p = std::fma(p, r, 1.0F / 720.0F);
  p = std::fma(p, r, 1.0F / 120.0F);
  p = std::fma(p, r, 1.0F / 24.0F);
  p = std::fma(p, r, 1.0F / 6.0F);
  p = std::fma(p, r, 0.5F);
  p = std::fma(p, r, 1.0F);
  p = std::fma(p, r, 1.0F);
  // 2^n in two factors, since n reaches from -150 to 128.
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const int32_t half = exponent >> 1;
  const float a = std::bit_cast<float>((half + 127) << 23);
  const float b = std::bit_cast<float>((exponent - half + 127) << 23);
  return p * a * b;
}

[[nodiscard]] inline double Exp(double x) {
  return std::exp(x);
}

// term(0) + ... + term(n - 1), in 16 interleaved partial sums that are then added pairwise: an order that depends on n
// alone and that vectorises.
template <typename A, typename Term>
[[nodiscard]] inline A SumOf(int64_t n, const Term& term) {
  constexpr int kLanes = 16;
  A lanes[kLanes] = {};
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      lanes[l] += term(i + l);
    }
  }
  for (int64_t i = whole; i < n; ++i) {
    lanes[i - whole] += term(i);
  }
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) {
      lanes[l] += lanes[l + width];
    }
  }
  return lanes[0];
}

}  // namespace ksa
