#include "kernels/activation/swiglu_backends.h"
#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/map.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda {
namespace {

using device::Vector;

// 1 / (1 + exp(-x)). The fast instructions err by a few units of 2^-24, far below a rounding to bf16; fp32 results keep
// the exact ones.
template <typename T>
__device__ __forceinline__ float Sigmoid(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return 1.0F / (1.0F + expf(-x));
  } else {
    return __fdividef(1.0F, 1.0F + __expf(-x));
  }
}

template <typename T>
struct ForwardOp {
  const T* gate;
  const T* up;
  T* y;

  template <int N>
  struct Registers {
    Vector<T, N> gate;
    Vector<T, N> up;
  };

  __device__ bool Enabled() const { return true; }

  template <int N>
  __device__ void Load(int64_t i, Registers<N>& r) const {
    r.gate.Load(gate + i);
    r.up.Load(up + i);
  }

  template <int N>
  __device__ void Store(int64_t i, const Registers<N>& r) const {
    float values[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float g = r.gate[e];
      values[e] = g * Sigmoid<T>(g) * r.up[e];
    }
    Vector<T, N> out;
    out.Set(values);
    out.Store(y + i);
  }
};

template <typename T>
struct BackwardOp {
  const T* dy;
  const T* gate;
  const T* up;
  T* dgate;
  T* dup;

  template <int N>
  struct Registers {
    Vector<T, N> dy;
    Vector<T, N> gate;
    Vector<T, N> up;
  };

  __device__ bool Enabled() const { return true; }

  template <int N>
  __device__ void Load(int64_t i, Registers<N>& r) const {
    r.dy.Load(dy + i);
    r.gate.Load(gate + i);
    r.up.Load(up + i);
  }

  template <int N>
  __device__ void Store(int64_t i, const Registers<N>& r) const {
    float to_gate[N];
    float to_up[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float g = r.gate[e];
      const float d = r.dy[e];
      const float s = Sigmoid<T>(g);  // silu'(g) = s (1 + g (1 - s))
      to_gate[e] = d * r.up[e] * s * (1.0F + g * (1.0F - s));
      to_up[e] = d * g * s;
    }
    Vector<T, N> out;
    out.Set(to_gate);
    out.Store(dgate + i);
    out.Set(to_up);
    out.Store(dup + i);
  }
};

}  // namespace

void SwigluForward(const SwigluForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.gate.dtype, [&](auto element) {
    using T = decltype(element);
    const ForwardOp<T> op{args.gate.As<T>(), args.up.As<T>(), args.y.As<T>()};
    device::Map<device::kVectorElements<T>, 2>("SwigluForward", op, args.y.size(), {op.gate, op.up, op.y}, stream);
  });
}

void SwigluBackward(const SwigluBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.gate.dtype, [&](auto element) {
    using T = decltype(element);
    const BackwardOp<T> op{args.dy.As<T>(), args.gate.As<T>(), args.up.As<T>(), args.dgate.As<T>(), args.dup.As<T>()};
    device::Map<device::kVectorElements<T>, 2>(
        "SwigluBackward", op, args.dy.size(), {op.dy, op.gate, op.up, op.dgate, op.dup}, stream);
  });
}

}  // namespace ksa::cuda
