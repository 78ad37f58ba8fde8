#include "kernels/copy/copy_backends.h"
#include "kernels/copy/elementwise_scratch.h"
#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/map.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/device/row_totals.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda {
namespace {

using device::Vector;

template <typename From, typename To>
struct CopyOp {
  const From* from;
  To* to;

  template <int N>
  struct Registers {
    Vector<From, N> from;
  };

  __device__ bool Enabled() const { return true; }

  template <int N>
  __device__ void Load(int64_t i, Registers<N>& r) const {
    r.from.Load(from + i);
  }

  template <int N>
  __device__ void Store(int64_t i, const Registers<N>& r) const {
    if constexpr (std::is_same_v<From, To>) {
      r.from.Store(to + i);
    } else {
      float values[N];
#pragma unroll
      for (int e = 0; e < N; ++e) {
        values[e] = r.from[e];
      }
      Vector<To, N> out;
      out.Set(values);
      out.Store(to + i);
    }
  }
};

template <typename T>
struct AddOp {
  const T* a;
  const T* b;
  T* y;

  template <int N>
  struct Registers {
    Vector<T, N> a;
    Vector<T, N> b;
  };

  __device__ bool Enabled() const { return true; }

  template <int N>
  __device__ void Load(int64_t i, Registers<N>& r) const {
    r.a.Load(a + i);
    r.b.Load(b + i);
  }

  template <int N>
  __device__ void Store(int64_t i, const Registers<N>& r) const {
    float values[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      values[e] = r.a[e] + r.b[e];
    }
    Vector<T, N> out;
    out.Set(values);
    out.Store(y + i);
  }
};

// kKeep: b is not 0, so y is read.
template <typename T, bool kKeep>
struct AxpbyOp {
  float a;
  float b;
  const T* x;
  T* y;

  template <int N>
  struct Registers {
    Vector<T, N> x;
    Vector<T, N> y;
  };

  __device__ bool Enabled() const { return true; }

  template <int N>
  __device__ void Load(int64_t i, Registers<N>& r) const {
    r.x.Load(x + i);
    if constexpr (kKeep) {
      r.y.Load(y + i);
    }
  }

  template <int N>
  __device__ void Store(int64_t i, const Registers<N>& r) const {
    float values[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      values[e] = a * r.x[e];
      if constexpr (kKeep) {
        values[e] += b * r.y[e];
      }
    }
    Vector<T, N> out;
    out.Set(values);
    out.Store(y + i);
  }
};

// One block sums kSquaresChunk elements: thread t its vectors in ascending order, then the threads as BlockSum does.
constexpr int kSquaresThreads = 256;

template <typename T, int N>
__global__ void __launch_bounds__(kSquaresThreads) SquaresKernel(const T* x, int64_t size, double* partials) {
  constexpr int kUnroll = 4;
  constexpr int64_t kStep = int64_t{kSquaresThreads} * N;
  __shared__ double shared[kSquaresThreads / 32];
  const int64_t begin = int64_t{blockIdx.x} * kSquaresChunk;
  const int64_t end = begin + kSquaresChunk < size ? begin + kSquaresChunk : size;
  double sum = 0.0;
  int64_t i = begin + int64_t{threadIdx.x} * N;
  const auto add = [&](const Vector<T, N>& v) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const auto value = static_cast<double>(v[e]);
      sum += value * value;
    }
  };
  for (; i + (kUnroll - 1) * kStep + N <= end; i += kUnroll * kStep) {
    Vector<T, N> v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      v[u].LoadStreaming(x + i + u * kStep);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      add(v[u]);
    }
  }
  for (; i + N <= end; i += kStep) {
    Vector<T, N> v;
    v.LoadStreaming(x + i);
    add(v);
  }
  for (; i < end; ++i) {  // the vector that the end cuts
    const double value = static_cast<double>(static_cast<float>(x[i]));
    sum += value * value;
  }
  sum = device::BlockSum<kSquaresThreads / 32>(sum, shared);
  if (threadIdx.x == 0) {
    partials[blockIdx.x] = sum;
  }
}

constexpr int kTotalThreads = 1024;

__global__ void __launch_bounds__(kTotalThreads) TotalKernel(const double* partials, int64_t count, double* out) {
  __shared__ double shared[kTotalThreads / 32];
  double sum = 0.0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < count; i += kTotalThreads) {
    sum += partials[i];
  }
  sum = device::BlockSum<kTotalThreads / 32>(sum, shared);
  if (threadIdx.x == 0) {
    *out += sum;
  }
}

}  // namespace

void Copy(const TensorView& from, const TensorView& to, const Stream& stream) {
  const auto run = [&](auto source, auto target) {
    using From = decltype(source);
    using To = decltype(target);
    // 16 bytes a store: where a warp's loads have gaps, the cache fills them; where its stores have, memory pays.
    constexpr int kElements = device::kVectorElements<To>;
    constexpr int kUnroll = sizeof(From) < sizeof(To) ? 2 : 1;
    const CopyOp<From, To> op{static_cast<const From*>(from.data), static_cast<To*>(to.data)};
    device::Map<kElements, kUnroll>("Copy", op, from.size(), {from.data, to.data}, stream);
  };
  if (from.dtype == to.dtype && from.dtype != DType::kBF16) {
    // Bits are bits: int32 and fp64 travel as words of 32 of them.
    const int64_t words = from.bytes() / 4;
    const CopyOp<float, float> op{static_cast<const float*>(from.data), static_cast<float*>(to.data)};
    device::Map<4, 1>("Copy", op, words, {from.data, to.data}, stream);
    return;
  }
  DispatchGpu(from.dtype, [&](auto source) { DispatchGpu(to.dtype, [&](auto target) { run(source, target); }); });
}

void Zero(const TensorView& x, const Stream& stream) {
  if (!stream.dry && x.size() > 0) {
    KSA_CUDA_CHECK(cudaMemsetAsync(x.data, 0, static_cast<size_t>(x.bytes()), Handle(stream)));
  }
}

void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream) {
  DispatchGpu(a.dtype, [&](auto element) {
    using T = decltype(element);
    const AddOp<T> op{a.As<T>(), b.As<T>(), y.As<T>()};
    device::Map<device::kVectorElements<T>, 2>("Add", op, y.size(), {a.data, b.data, y.data}, stream);
  });
}

void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream) {
  DispatchGpu(x.dtype, [&](auto element) {
    using T = decltype(element);
    const auto run = [&]<bool kKeep>() {
      const AxpbyOp<T, kKeep> op{static_cast<float>(a), static_cast<float>(b), x.As<T>(), y.As<T>()};
      device::Map<device::kVectorElements<T>, 2>("Axpby", op, y.size(), {x.data, y.data}, stream);
    };
    if (static_cast<float>(b) == 0.0F) {
      run.template operator()<false>();
    } else {
      run.template operator()<true>();
    }
  });
}

void SumOfSquares(const TensorView& x, const TensorView& out, Allocator& scratch, const Stream& stream) {
  const Tensor partials = SumOfSquaresPartials(x, scratch);
  const int64_t blocks = partials.size();
  const LaunchShape shape = {dim3(static_cast<unsigned>(blocks)), dim3(kSquaresThreads)};
  DispatchGpu(x.dtype, [&](auto element) {
    using T = decltype(element);
    if (device::IsAligned16(x.data)) {
      const auto kernel = SquaresKernel<T, device::kVectorElements<T>>;
      Launch("SumOfSquares", stream, shape, kernel, x.As<T>(), x.size(), partials.As<double>());
    } else {
      Launch("SumOfSquares", stream, shape, SquaresKernel<T, 1>, x.As<T>(), x.size(), partials.As<double>());
    }
  });
  Launch("SumOfSquares",
         stream,
         {dim3(1), dim3(kTotalThreads)},
         TotalKernel,
         partials.As<double>(),
         blocks,
         out.As<double>());
}

void RaiseToLargest(const TensorView& x, const TensorView& out, const Stream& stream) {
  device::RaiseToLargest("RaiseToLargest", x.As<float>(), x.size(), out.As<double>(), stream);
}

}  // namespace ksa::cuda
