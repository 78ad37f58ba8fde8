// Vectors of the CPU attention kernels: GCC vector types, as wide as the instruction set that is compiled for.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace ksa::cpu_attention {

// kBlock: keys (or head dims) of one register block. Blocks are kBlock x 2 vectors, which half fills the registers:
// enough sums in flight to hide the latency of a fused multiply-add.
#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
inline constexpr int kBlock = 8;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
inline constexpr int kBlock = 4;
#else
inline constexpr int kVectorBytes = 16;
inline constexpr int kBlock = 4;
#endif

template <typename A>
struct Simd;

template <>
struct Simd<float> {
  using Vec [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = float;
  using Int [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = int32_t;
  using Index = int32_t;  // an integer of a lane's width
  static constexpr int kWidth = kVectorBytes / 4;
};

template <>
struct Simd<double> {
  using Vec [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = double;
  using Int [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = int64_t;
  using Index = int64_t;
  static constexpr int kWidth = kVectorBytes / 8;
};

template <typename A>
using Vec = typename Simd<A>::Vec;

template <typename A>
inline constexpr int kWidth = Simd<A>::kWidth;

// A tile of queries is two vectors wide, one lane a query.
inline constexpr int kVectors = 2;

template <typename A>
inline constexpr int kLanes = kVectors* kWidth<A>;

// Addresses are multiples of kVectorBytes.
template <typename A>
inline Vec<A> Load(const A* from) {
  return *reinterpret_cast<const Vec<A>*>(from);
}

template <typename A>
inline void Store(A* to, const Vec<A>& value) {
  *reinterpret_cast<Vec<A>*>(to) = value;
}

template <typename A>
inline Vec<A> Broadcast(A value) {
  return value - Vec<A>{};
}

// 2^x lane by lane, for x <= 0 (and a little above). Exactly 0 for -infinity; NaN stays NaN.
inline Vec<double> Exp2(const Vec<double>& x) {
  Vec<double> result;
  for (int i = 0; i < kWidth<double>; ++i) {
    result[i] = std::exp2(x[i]);
  }
  return result;
}

// Relative error below 1.2e-7: x = n + f with n whole and |f| <= 1/2, 2^f by a polynomial fitted to the relative error
// (2e-9), 2^n added to the exponent. Results below 2^-125 are 0.
inline Vec<float> Exp2(const Vec<float>& x) {
  using Int = Simd<float>::Int;
  constexpr float kRound = 0x1.8p23F;  // adding it leaves n in the low bits of the mantissa
  const Vec<float> shifted = x + kRound;
  const Vec<float> f = x - (shifted - kRound);
  Vec<float> p = f * 1.5353362e-4F + 1.3398874e-3F;
  p = p * f + 9.6184373e-3F;
  p = p * f + 5.5503324e-2F;
  p = p * f + 2.4022648e-1F;
  p = p * f + 6.9314720e-1F;
  p = p * f + 1.0F;
  const Int exponent = reinterpret_cast<const Int&>(shifted) << 23;
  const Int bits = reinterpret_cast<const Int&>(p) + exponent;
  return x < -125.0F ? Vec<float>{} : reinterpret_cast<const Vec<float>&>(bits);
}

namespace internal {

template <int kStep, typename A, size_t... kIndex>
inline Vec<A> AddRotated(const Vec<A>& x, std::index_sequence<kIndex...>) {
  return x + __builtin_shufflevector(x, x, ((kIndex + kStep) % sizeof...(kIndex))...);
}

// The lower (kHalf = 0) or upper half of a0 b0 a1 b1 a2 b2 ...
template <int kHalf, typename A, size_t... kIndex>
inline Vec<A> Interleave(const Vec<A>& a, const Vec<A>& b, std::index_sequence<kIndex...>) {
  constexpr size_t kCount = sizeof...(kIndex);
  return __builtin_shufflevector(a, b, (kIndex % 2 * kCount + (kHalf * kCount + kIndex) / 2)...);
}

template <int kStep, typename A>
inline A SumLanes(const Vec<A>& x) {
  if constexpr (kStep == 0) {
    return x[0];
  } else {
    return SumLanes<kStep / 2, A>(AddRotated<kStep, A>(x, std::make_index_sequence<kWidth<A>>()));
  }
}

}  // namespace internal

// The sum of all lanes.
template <typename A>
inline A SumLanes(const Vec<A>& x) {
  return internal::SumLanes<kWidth<A> / 2, A>(x);
}

// out[j][i] = in[i][j] for a square of kWidth x kWidth. Interleaving row i with row i + kWidth/2, log2(kWidth) times,
// transposes.
template <typename A>
inline void TransposeSquare(const A* in, int64_t in_pitch, A* out, int64_t out_pitch) {
  constexpr int kSize = kWidth<A>;
  constexpr auto kIndex = std::make_index_sequence<kSize>();
  Vec<A> rows[kSize];
  for (int i = 0; i < kSize; ++i) {
    rows[i] = Load(in + i * in_pitch);
  }
  for (int stage = kSize; stage > 1; stage /= 2) {
    Vec<A> next[kSize];
    for (int i = 0; i < kSize / 2; ++i) {
      next[2 * i] = internal::Interleave<0, A>(rows[i], rows[i + kSize / 2], kIndex);
      next[2 * i + 1] = internal::Interleave<1, A>(rows[i], rows[i + kSize / 2], kIndex);
    }
    for (int i = 0; i < kSize; ++i) {
      rows[i] = next[i];
    }
  }
  for (int i = 0; i < kSize; ++i) {
    Store(out + i * out_pitch, rows[i]);
  }
}

// out[j][i] = in[i][j] for i < rows, j < cols, both multiples of kWidth.
template <typename A>
inline void Transpose(const A* in, int64_t in_pitch, int64_t rows, int64_t cols, A* out, int64_t out_pitch) {
  for (int64_t i = 0; i < rows; i += kWidth<A>) {
    for (int64_t j = 0; j < cols; j += kWidth<A>) {
      TransposeSquare(in + i * in_pitch + j, in_pitch, out + j * out_pitch + i, out_pitch);
    }
  }
}

}  // namespace ksa::cpu_attention
