// The kernels of RMSNorm. A row is held in the registers of one warp, or of a whole block where it is long, from its
// one load to its one store; what does not fit, or is not aligned, is read twice by the kernels named "Any".
#pragma once

#include <cstdint>

#include "kernels/device/launch.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/device/segments.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda::norm {

inline constexpr int kBlockWarps = 4;
inline constexpr int kAnyThreads = 256;

template <typename T>
struct Forward {
  const T* x;         // [n, d]
  const T* residual;  // [residual_rows, d] or null
  T* sum;             // [n, d] where there is a residual
  const T* weight;
  const T* weight_summary;
  T* y;
  float* rstd;
  int64_t n;
  int64_t d;
  int64_t residual_rows;
  int64_t split;
  float eps;
};

template <typename T>
struct Backward {
  const T* dy;
  const T* x;
  const float* rstd;
  const T* weight;
  const T* weight_summary;
  const T* dx_residual;  // or null
  T* dx;
  float* partials;  // [blocks, d], or null: weights' gradients are not wanted
  int64_t d;
  device::Segments segments;  // text rows and summary rows
};

// The sum over the threads that hold one row. `shared` has room for kWarps values, which must not be written again
// before another barrier of the block: calls in a loop take turns over two places.
template <int kWarps>
__device__ __forceinline__ float RowSum(float value, float* shared) {
  if constexpr (kWarps == 1) {
    return device::WarpSum(value);
  } else {
    return device::BlockSum<kWarps>(value, shared);
  }
}

// v = what rounds to x + residual in T.
template <typename T, int N>
__device__ __forceinline__ void AddTo(device::Vector<T, N>& v, const device::Vector<T, N>& other) {
  float sum[N];
#pragma unroll
  for (int e = 0; e < N; ++e) {
    sum[e] = v[e] + other[e];
  }
  v.Set(sum);
}

// kWarps warps hold a row, kVectors vectors a thread.
template <typename T, int kVectors, int kWarps>
__global__ void __launch_bounds__(32 * kBlockWarps) ForwardKernel(const Forward<T> p) {
  device::WaitForKernelBefore();
  constexpr int N = device::kVectorElements<T>;
  constexpr int kThreads = 32 * kWarps;
  __shared__ float shared[kWarps];
  const int64_t row = int64_t{blockIdx.x} * (kBlockWarps / kWarps) + threadIdx.x / kThreads;
  if (row >= p.n) {
    return;
  }
  const int64_t first = int64_t{threadIdx.x % kThreads} * N;
  const auto at = [&](int j) { return first + int64_t{j} * (kThreads * N); };
  device::Vector<T, N> x[kVectors];
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    if (at(j) < p.d) {
      x[j].Load(p.x + row * p.d + at(j));
    }
  }
  if (p.residual != nullptr) {
    device::Vector<T, N> residual[kVectors];
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (at(j) < p.d && row < p.residual_rows) {
        residual[j].Load(p.residual + row * p.d + at(j));
      }
    }
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (at(j) < p.d) {
        if (row < p.residual_rows) {
          AddTo(x[j], residual[j]);
        }
        x[j].Store(p.sum + row * p.d + at(j));
      }
    }
  }
  float squares = 0.0F;
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    if (at(j) < p.d) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        squares += x[j][e] * x[j][e];
      }
    }
  }
  squares = RowSum<kWarps>(squares, shared);
  const float rstd = device::ReciprocalRoot(squares / static_cast<float>(p.d) + p.eps);
  if (threadIdx.x % kThreads == 0) {
    p.rstd[row] = rstd;
  }
  const T* weight = row < p.split ? p.weight : p.weight_summary;
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    if (at(j) < p.d) {
      device::Vector<T, N> w;
      w.Load(weight + at(j));
      float y[N];
#pragma unroll
      for (int e = 0; e < N; ++e) {
        y[e] = x[j][e] * rstd * w[e];
      }
      w.Set(y);
      w.Store(p.y + row * p.d + at(j));
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kAnyThreads) ForwardAnyKernel(const Forward<T> p) {
  device::WaitForKernelBefore();
  __shared__ float shared[kAnyThreads / 32];
  const int64_t row = blockIdx.x;
  const T* x = p.x + row * p.d;
  float squares = 0.0F;
  for (int64_t i = threadIdx.x; i < p.d; i += kAnyThreads) {
    T value = x[i];
    if (p.residual != nullptr) {
      if (row < p.residual_rows) {
        value = T(static_cast<float>(value) + static_cast<float>(p.residual[row * p.d + i]));
      }
      p.sum[row * p.d + i] = value;
    }
    squares += static_cast<float>(value) * static_cast<float>(value);
  }
  squares = device::BlockSum<kAnyThreads / 32>(squares, shared);
  const float rstd = device::ReciprocalRoot(squares / static_cast<float>(p.d) + p.eps);
  if (threadIdx.x == 0) {
    p.rstd[row] = rstd;
  }
  const T* weight = row < p.split ? p.weight : p.weight_summary;
  const T* normed = p.residual != nullptr ? p.sum + row * p.d : x;  // every thread reads what it wrote itself
  for (int64_t i = threadIdx.x; i < p.d; i += kAnyThreads) {
    p.y[row * p.d + i] = T(static_cast<float>(normed[i]) * rstd * static_cast<float>(weight[i]));
  }
}

// Adds up the weight's gradient over the warps of a block, each of which holds all columns, and writes the block's
// part. `shared` has room for the sums of all of them.
template <typename T, int kVectors>
__device__ __forceinline__ void WriteWarpSums(const Backward<T>& p,
                                              const float (&sums)[kVectors][device::kVectorElements<T>],
                                              float* shared) {
  constexpr int N = device::kVectorElements<T>;
  constexpr int kColumns = 32 * N * kVectors;
  float* own = shared + threadIdx.x / 32 * kColumns;
  __syncthreads();  // rows are staged in the same memory
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      own[(j * 32 + static_cast<int>(threadIdx.x % 32)) * N + e] = sums[j][e];
    }
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < p.d; c += 32 * kBlockWarps) {
    float sum = shared[c];
#pragma unroll
    for (int w = 1; w < kBlockWarps; ++w) {
      sum += shared[w * kColumns + c];
    }
    p.partials[blockIdx.x * p.d + c] = sum;
  }
}

// Rows that are worked on or on their way to shared memory.
inline constexpr int kStages = 2;
inline constexpr int kSumBytes = 2 * kBlockWarps * 4;  // for sums over a block, before the rows

// Brings the rows of a block's segment to shared memory, one after the other. Every thread waits for, and reads, its
// own copies alone. What is behind the end of a row reads as zero.
template <typename T, int kVectors, int kWarps>
class RowPipe {
 public:
  static constexpr int N = device::kVectorElements<T>;
  static constexpr int kThreads = 32 * kWarps;

  __device__ RowPipe(const Backward<T>& p, const device::BlockRows& rows, unsigned char* shared)
      : column_(static_cast<int>(threadIdx.x) % kThreads * N),
        mine_(shared + threadIdx.x / kThreads * (kStages * kStageBytes) + threadIdx.x % kThreads * 16),
        row_(rows.first + threadIdx.x / kThreads),
        offset_(row_ * p.d + column_) {
    const int64_t vectors = (p.d - column_ + kThreads * N - 1) / (kThreads * N);
    count_ = static_cast<int>(vectors < 0 ? 0 : vectors);
#pragma unroll 1
    for (int j = count_; j < kVectors; ++j) {
#pragma unroll 1
      for (int i = 0; i < 3 * kStages; ++i) {
        *reinterpret_cast<uint4*>(mine_ + i * kRowBytes + j * (16 * kThreads)) = {};
      }
    }
  }

  // Queues the thread's next row (nothing behind the last) as a group of copies of its own.
  __device__ __forceinline__ void Fetch(const Backward<T>& p, const device::BlockRows& rows, int stage) {
    if (row_ < rows.last) {
      const uint32_t to = device::SharedAddress(mine_ + stage * kStageBytes);
      Copies(to, p.x + offset_);
      Copies(to + kRowBytes, p.dy + offset_);
      if (p.dx_residual != nullptr) {
        Copies(to + 2 * kRowBytes, p.dx_residual + offset_);
      }
    }
    device::CommitCopies();
    row_ += rows.step;
    offset_ += rows.step * p.d;
  }

  // Tensor 0: x, 1: dy, 2: what dx is added to.
  __device__ __forceinline__ void Read(int stage, int tensor, int j, device::Vector<T, N>& v) const {
    v.Load(reinterpret_cast<const T*>(mine_ + stage * kStageBytes + tensor * kRowBytes + j * (16 * kThreads)));
  }

  // Whether the row has the thread's vector j, and where in the row it begins.
  [[nodiscard]] __device__ __forceinline__ bool Has(int j) const {
    return j < count_;
  }

  [[nodiscard]] __device__ __forceinline__ int Column(int j) const {
    return column_ + j * (kThreads * N);
  }

  static constexpr int kRowBytes = 16 * kVectors * kThreads;
  static constexpr int kStageBytes = 3 * kRowBytes;

 private:
  __device__ __forceinline__ void Copies(uint32_t to, const T* from) const {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (Has(j)) {
        device::CopyAsync(to + static_cast<uint32_t>(j) * (16 * kThreads), from + j * (kThreads * N));
      }
    }
  }

  int column_;
  int count_;
  unsigned char* mine_;
  int64_t row_;     // fetched next
  int64_t offset_;  // of the thread's first element in it
};

// Dynamic shared memory of BackwardKernel: as many rows as a block has at once, for every stage.
template <typename T, int kVectors, int kWarps>
constexpr size_t BackwardSharedBytes() {
  return kSumBytes + size_t{kBlockWarps / kWarps} * kStages * RowPipe<T, kVectors, kWarps>::kStageBytes;
}

template <typename T, int kVectors, int kWarps>
__global__ void __launch_bounds__(32 * kBlockWarps, kVectors <= 2 ? 4 : 2) BackwardKernel(const Backward<T> p) {
  device::WaitForKernelBefore();
  using Pipe = RowPipe<T, kVectors, kWarps>;
  constexpr int N = Pipe::N;
  extern __shared__ __align__(16) unsigned char memory[];
  auto* shared = reinterpret_cast<float*>(memory);
  const device::BlockRows rows(p.segments, kBlockWarps / kWarps);
  Pipe pipe(p, rows, memory + kSumBytes);
  device::Vector<T, N> weight[kVectors];
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    const float zeros[N] = {};
    weight[j].Set(zeros);
    if (pipe.Has(j)) {
      weight[j].Load((rows.second ? p.weight_summary : p.weight) + pipe.Column(j));
    }
  }
  float sums[kVectors][N] = {};
  const float inverse = 1.0F / static_cast<float>(p.d);
  const int64_t first = rows.first + threadIdx.x / Pipe::kThreads;
  T* to = p.dx + first * p.d + pipe.Column(0);
  float next_rstd = first < rows.last ? p.rstd[first] : 0.0F;
  pipe.Fetch(p, rows, 0);
  int stage = 0;
  for (int64_t row = first; row < rows.last; row += rows.step) {
    const int64_t next = row + rows.step;
    const float rstd = next_rstd;
    next_rstd = next < rows.last ? p.rstd[next] : 0.0F;
    pipe.Fetch(p, rows, 1 - stage);
    device::WaitForCopies<1>();
    device::Vector<T, N> x[kVectors];
    device::Vector<T, N> dy[kVectors];
    float dots[4] = {};  // several, so that additions need not wait for each other
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      pipe.Read(stage, 0, j, x[j]);
      pipe.Read(stage, 1, j, dy[j]);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        dots[e % 4] += dy[j][e] * weight[j][e] * x[j][e];
      }
    }
    // dx = rstd (dy w - x rstd mean), with mean = rstd dot / d
    const float dot = RowSum<kWarps>((dots[0] + dots[1]) + (dots[2] + dots[3]), shared + stage * kWarps);
    const float along_x = dot * rstd * rstd * rstd * inverse;
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      float dx[N];
#pragma unroll
      for (int e = 0; e < N; ++e) {
        const float g = dy[j][e] * rstd;
        sums[j][e] += g * x[j][e];
        dx[e] = g * weight[j][e] - x[j][e] * along_x;
      }
      device::Vector<T, N> out;
      out.Set(dx);
      if (p.dx_residual != nullptr) {
        device::Vector<T, N> past;
        pipe.Read(stage, 2, j, past);
        AddTo(out, past);
      }
      if (pipe.Has(j)) {
        out.Store(to + j * (Pipe::kThreads * N));
      }
    }
    to += rows.step * p.d;
    stage = 1 - stage;
  }
  if (p.partials == nullptr) {
    return;
  }
  if constexpr (kWarps == 1) {
    WriteWarpSums<T, kVectors>(p, sums, reinterpret_cast<float*>(memory));
  } else {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (pipe.Has(j)) {
        device::Vector<float, N> out;
        out.Set(sums[j]);
        out.Store(p.partials + blockIdx.x * p.d + pipe.Column(j));
      }
    }
  }
}

// Sums of the weight's gradient grow in the block's own row of scratch; each thread has its columns.
template <typename T>
__global__ void __launch_bounds__(kAnyThreads) BackwardAnyKernel(const Backward<T> p) {
  device::WaitForKernelBefore();
  __shared__ float shared[2][kAnyThreads / 32];
  int turn = 0;
  const device::BlockRows rows(p.segments, 1);
  const T* weight = rows.second ? p.weight_summary : p.weight;
  float* sums = p.partials == nullptr ? nullptr : p.partials + blockIdx.x * p.d;
  for (int64_t i = threadIdx.x; i < p.d && sums != nullptr; i += kAnyThreads) {
    sums[i] = 0.0F;
  }
  for (int64_t row = rows.first; row < rows.last; row += rows.step) {
    const T* x = p.x + row * p.d;
    const T* dy = p.dy + row * p.d;
    const float rstd = p.rstd[row];
    float dot = 0.0F;
    for (int64_t i = threadIdx.x; i < p.d; i += kAnyThreads) {
      dot += static_cast<float>(dy[i]) * static_cast<float>(weight[i]) * static_cast<float>(x[i]);
    }
    const float mean = RowSum<kAnyThreads / 32>(dot, shared[turn]) * rstd / static_cast<float>(p.d);
    for (int64_t i = threadIdx.x; i < p.d; i += kAnyThreads) {
      const float normed = static_cast<float>(x[i]) * rstd;
      const float g = static_cast<float>(dy[i]);
      if (sums != nullptr) {
        sums[i] += g * normed;
      }
      T out = T(rstd * (g * static_cast<float>(weight[i]) - normed * mean));
      if (p.dx_residual != nullptr) {
        out = T(static_cast<float>(p.dx_residual[row * p.d + i]) + static_cast<float>(out));
      }
      p.dx[row * p.d + i] = out;
    }
    turn = 1 - turn;
  }
}

}  // namespace ksa::cuda::norm
