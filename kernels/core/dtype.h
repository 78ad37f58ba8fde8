// Element types of tensors.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "kernels/core/host_device.h"

namespace ksa {

enum class DType : int { kF64, kF32, kBF16, kI32 };

[[nodiscard]] int64_t SizeOf(DType dtype);           // bytes an element
[[nodiscard]] std::string_view NameOf(DType dtype);  // "fp64", "fp32", "bf16", "int32"

// The type in which gradients, master weights, moments and reductions of a compute type are held:
// fp64 for fp64, fp32 for everything else.
[[nodiscard]] inline DType AccumulationType(DType dtype) {
  return dtype == DType::kF64 ? DType::kF64 : DType::kF32;
}

// bfloat16: the upper half of an IEEE float, rounded to nearest even on conversion.
struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;

  KSA_HOST_DEVICE explicit BFloat16(float value) {
    uint32_t u;
    memcpy(&u, &value, sizeof u);
    const bool nan = (u & 0x7fffffffU) > 0x7f800000U;
    bits = static_cast<uint16_t>(nan ? (u >> 16U) | 0x40U : (u + 0x7fffU + ((u >> 16U) & 1U)) >> 16U);
  }

  KSA_HOST_DEVICE explicit operator float() const {
    const uint32_t u = static_cast<uint32_t>(bits) << 16U;
    float value;
    memcpy(&value, &u, sizeof value);
    return value;
  }
};

static_assert(sizeof(BFloat16) == 2);

// DTypeOf<T>::value is the DType of a C++ element type; Accumulator<T> the type sums are kept in.
template <typename T>
struct DTypeOf;

template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};

template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};

template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBF16;
};

template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};

template <typename T>
struct AccumulatorOf {
  using type = float;
};

template <>
struct AccumulatorOf<double> {
  using type = double;
};

template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

}  // namespace ksa
