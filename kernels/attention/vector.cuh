// Rows of bf16 in pieces of eight elements, 16 bytes a lane.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/core/dtype.h"
#include "kernels/core/tensor.h"

namespace ksa::cuda_attention {

// Whether there are kernels for rows like these of x [n, h, e].
[[nodiscard]] inline bool IsRowOfVectors(const TensorView& x) {
  return x.dtype == DType::kBF16 && (x.shape[2] == 64 || x.shape[2] == 128);
}

// The same for queries q [nq, h, e] with values v [nk, g, c].
[[nodiscard]] inline bool AreRowsOfVectors(const TensorView& q, const TensorView& v) {
  return IsRowOfVectors(q) && v.shape[2] == q.shape[2];
}

// `at` is a multiple of 16 bytes.
__device__ inline uint4 LoadVector(const BFloat16* at) {
  return *reinterpret_cast<const uint4*>(at);
}

// Eight elements in fp32.
struct Vector {
  float x[8] = {};

  Vector() = default;

  __device__ explicit Vector(const uint4& packed) {
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = __uint_as_float(words[i] << 16U);
      x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
    }
  }

  // this += factor · other
  __device__ void Add(float factor, const Vector& other) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      x[i] = fmaf(factor, other.x[i], x[i]);
    }
  }

  __device__ void Scale(float factor) {
#pragma unroll
    for (float& element : x) {
      element *= factor;
    }
  }

  __device__ void Store(BFloat16* at) const {
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
      words[i] = reinterpret_cast<const uint32_t&>(pair);
    }
    *reinterpret_cast<uint4*>(at) = make_uint4(words[0], words[1], words[2], words[3]);
  }
};

// The sum of `value` over aligned runs of `lanes` lanes, on all of them.
template <int kLanes>
__device__ float SumOver(float value) {
#pragma unroll
  for (int lane = kLanes / 2; lane > 0; lane /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, lane);
  }
  return value;
}

// The same on all lanes of a run.
template <int kLanes>
__device__ float Dot(const Vector& a, const Vector& b) {
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    sum = fmaf(a.x[i], b.x[i], sum);
  }
  return SumOver<kLanes>(sum);
}

}  // namespace ksa::cuda_attention
