// Vectors: N neighbouring elements of fp32 or bf16 that are loaded and stored with as few instructions as there are.
//
// A vector stays as it came from memory until an element is asked for, so that many of them fit into registers while
// their loads are on the way.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>

#include "kernels/core/dtype.h"

namespace ksa::device {

// Elements of T in 16 bytes, the widest access.
template <typename T>
inline constexpr int kVectorElements = 16 / static_cast<int>(sizeof(T));

// Whether `data` may be accessed 16 bytes at a time.
[[nodiscard]] inline __host__ __device__ bool IsAligned16(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

// An unsigned type of 2, 4, 8 or 16 bytes.
template <int kBytes>
using Bits =
    std::conditional_t<kBytes == 2,
                       uint16_t,
                       std::conditional_t<kBytes == 4, uint32_t, std::conditional_t<kBytes == 8, uint2, uint4>>>;

// fp32 and bf16 in the registers of a vector: words of 32 bits, or one half word.
template <typename T, int N>
class Vector {
 public:
  static constexpr int kBytes = N * static_cast<int>(sizeof(T));

  // `from` is aligned to the vector's size, or to 16 bytes if that is more.
  __device__ __forceinline__ void Load(const T* from) {
#pragma unroll
    for (int i = 0; i < kAccesses; ++i) {
      parts_[i] = reinterpret_cast<const Part*>(from)[i];
    }
  }

  __device__ __forceinline__ void Store(T* to) const {
#pragma unroll
    for (int i = 0; i < kAccesses; ++i) {
      reinterpret_cast<Part*>(to)[i] = parts_[i];
    }
  }

  // For what is not read again soon: leaves the caches to others.
  __device__ __forceinline__ void LoadStreaming(const T* from) {
#pragma unroll
    for (int i = 0; i < kAccesses; ++i) {
      parts_[i] = __ldcs(reinterpret_cast<const Part*>(from) + i);
    }
  }

  __device__ __forceinline__ void StoreStreaming(T* to) const {
#pragma unroll
    for (int i = 0; i < kAccesses; ++i) {
      __stcs(reinterpret_cast<Part*>(to) + i, parts_[i]);
    }
  }

  // Rounds to nearest even.
  __device__ __forceinline__ void Set(const float (&values)[N]) {
    if constexpr (std::is_same_v<T, float>) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        SetWord(i, __float_as_uint(values[i]));
      }
    } else if constexpr (N == 1) {
      parts_[0] = __bfloat16_as_ushort(__float2bfloat16_rn(values[0]));
    } else {
#pragma unroll
      for (int i = 0; i < N; i += 2) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(values[i], values[i + 1]);
        SetWord(i / 2, reinterpret_cast<const uint32_t&>(pair));
      }
    }
  }

  // `i` must be known when the loop around it is unrolled.
  [[nodiscard]] __device__ __forceinline__ float operator[](int i) const {
    if constexpr (std::is_same_v<T, float>) {
      return __uint_as_float(Word(i));
    } else if constexpr (N == 1) {
      return __uint_as_float(static_cast<uint32_t>(parts_[0]) << 16U);
    } else {
      const uint32_t word = Word(i / 2);
      return __uint_as_float(i % 2 == 0 ? word << 16U : word & 0xffff0000U);
    }
  }

 private:
  static constexpr int kAccesses = kBytes > 16 ? kBytes / 16 : 1;
  using Part = Bits<kBytes / kAccesses>;

  [[nodiscard]] __device__ __forceinline__ uint32_t Word(int i) const {
    if constexpr (sizeof(Part) <= 4) {
      return parts_[i];
    } else if constexpr (sizeof(Part) == 8) {
      return i % 2 == 0 ? parts_[i / 2].x : parts_[i / 2].y;
    } else {
      const Part& part = parts_[i / 4];
      return i % 4 == 0 ? part.x : i % 4 == 1 ? part.y : i % 4 == 2 ? part.z : part.w;
    }
  }

  __device__ __forceinline__ void SetWord(int i, uint32_t value) {
    if constexpr (sizeof(Part) <= 4) {
      parts_[i] = static_cast<Part>(value);
    } else if constexpr (sizeof(Part) == 8) {
      (i % 2 == 0 ? parts_[i / 2].x : parts_[i / 2].y) = value;
    } else {
      Part& part = parts_[i / 4];
      (i % 4 == 0 ? part.x : i % 4 == 1 ? part.y : i % 4 == 2 ? part.z : part.w) = value;
    }
  }

  Part parts_[kAccesses];
};

}  // namespace ksa::device
