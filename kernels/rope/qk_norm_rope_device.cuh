// The kernels of the norm and the rotation of heads. A warp takes a row, and groups of its lanes one head each: a lane
// has a vector of a head's first half and the vector it is turned with of the second half, so that nothing is exchanged
// but the sums. Heads that do not divide so, or are not aligned, are done by the kernels named "Any", a pair a lane.
#pragma once

#include <cstdint>

#include "kernels/core/summary_layout.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/device/segments.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda::rope {

inline constexpr int kForwardWarps = 4;   // of a block
inline constexpr int kBackwardWarps = 4;  // of a block

template <typename T>
struct Forward {
  const T* x;               // [n, h, e]
  const T* weight;          // [e], or null: no norm
  const T* weight_summary;  // [e], or null without norm
  const float* table;       // [positions, e/2, 2]
  T* y;                     // [n, h, e]
  float* rstd;              // [n, h]
  SummaryLayout layout;
  int64_t n;
  int64_t first_row;
  int64_t split;
  int h;
  int e;
  float eps;
  float direction;  // 1, or -1 to turn back
};

// With a norm. Without one the gradient is turned back by the forward kernels.
template <typename T>
struct Backward {
  const T* dy;
  const T* x;
  const float* rstd;
  const T* weight;
  const T* weight_summary;
  const float* table;
  T* dx;
  float* partials;  // [blocks, e], or null: the weights' gradients are not wanted
  SummaryLayout layout;
  device::Segments segments;  // text rows and summary rows
  int64_t first_row;
  int h;
  int e;
};

// A head's two vectors that are turned together.
template <typename T>
struct Pairs {
  static constexpr int N = device::kVectorElements<T>;

  device::Vector<T, N> a;  // elements i, ...
  device::Vector<T, N> b;  // elements i + e/2, ...

  __device__ __forceinline__ void Load(const T* head, int i, int half) {
    a.Load(head + i);
    b.Load(head + i + half);
  }

  __device__ __forceinline__ void Store(T* head, int i, int half) const {
    a.Store(head + i);
    b.Store(head + i + half);
  }
};

// Which lane works where: `lanes` of them on one head.
template <typename T>
struct Place {
  __device__ explicit Place(int e)
      : half(e / 2),
        lanes(half / Pairs<T>::N),
        groups(32 / lanes),
        group(static_cast<int>(threadIdx.x) % 32 / lanes),
        i(static_cast<int>(threadIdx.x) % lanes * Pairs<T>::N) {}

  int half;
  int lanes;   // of a head
  int groups;  // heads at once
  int group;   // this lane's
  int i;       // this lane's first element
};

// The rotation of a row's heads, with the norm's weight in it: the same for all heads, to be multiplied by a head's
// rstd.
template <typename T, bool kNorm>
class Turn {
 public:
  __device__ Turn(const Forward<T>& p, int64_t row, const Place<T>& at) {
    device::Vector<float, 2 * N> angles;
    angles.Load(p.table + (int64_t{p.layout.Position(row + p.first_row)} * at.half + at.i) * 2);
    Pairs<T> weight;
    if constexpr (kNorm) {
      weight.Load(row < p.split ? p.weight : p.weight_summary, at.i, at.half);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float cos = angles[2 * k];
      const float sin = p.direction * angles[2 * k + 1];
      const float a = kNorm ? weight.a[k] : 1.0F;
      const float b = kNorm ? weight.b[k] : 1.0F;
      cos_[0][k] = a * cos;
      sin_[0][k] = a * sin;
      cos_[1][k] = b * cos;
      sin_[1][k] = b * sin;
    }
  }

  __device__ __forceinline__ void Apply(Pairs<T>& x, float rstd) const {
    float first[N];
    float second[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      first[k] = x.a[k] * cos_[0][k] - x.b[k] * sin_[1][k];
      second[k] = x.b[k] * cos_[1][k] + x.a[k] * sin_[0][k];
      if constexpr (kNorm) {
        first[k] *= rstd;
        second[k] *= rstd;
      }
    }
    x.a.Set(first);
    x.b.Set(second);
  }

 private:
  static constexpr int N = Pairs<T>::N;
  float cos_[2][N];  // times the weight of the first half, of the second
  float sin_[2][N];
};

template <typename T, bool kNorm>
__global__ void __launch_bounds__(32 * kForwardWarps) ForwardKernel(const Forward<T> p) {
  device::WaitForKernelBefore();
  constexpr int N = Pairs<T>::N;
  constexpr int kUnroll = kNorm ? 2 : 4;  // of the groups of heads: loads on their way at once
  const int64_t row = int64_t{blockIdx.x} * kForwardWarps + threadIdx.x / 32;
  if (row >= p.n) {
    return;
  }
  const Place<T> at(p.e);
  const T* x = p.x + row * p.h * p.e;
  T* y = p.y + row * p.h * p.e;
  Pairs<T> in[kUnroll];
  const auto load = [&](int base) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int head = base + u * at.groups + at.group;
      if (head < p.h) {
        in[u].Load(x + head * p.e, at.i, at.half);
      }
    }
  };
  load(0);  // on their way while the turn is worked out
  const Turn<T, kNorm> turn(p, row, at);
  const float inverse = 1.0F / static_cast<float>(p.e);
  for (int base = 0; base < p.h; base += kUnroll * at.groups) {
    if (base > 0) {
      load(base);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int head = base + u * at.groups + at.group;
      float rstd = 1.0F;
      if constexpr (kNorm) {
        float squares = 0.0F;
        if (head < p.h) {
#pragma unroll
          for (int k = 0; k < N; ++k) {
            squares += in[u].a[k] * in[u].a[k] + in[u].b[k] * in[u].b[k];
          }
        }
        squares = device::GroupSum(squares, at.lanes);
        rstd = device::ReciprocalRoot(squares * inverse + p.eps);
        if (head < p.h && at.i == 0) {
          p.rstd[row * p.h + head] = rstd;
        }
      }
      if (head < p.h) {
        turn.Apply(in[u], rstd);
        in[u].Store(y + head * p.e, at.i, at.half);
      }
    }
  }
}

// One head's gradient: turns dy back, and goes through the norm. `sums` grow by the weight's gradient. All lanes of the
// warp take part; a lane without a head has zeros. `inverse`: 1/e.
template <typename T>
__device__ __forceinline__ void BackwardHead(const device::Vector<float, 2 * Pairs<T>::N>& angles,
                                             const Pairs<T>& weight,
                                             const Pairs<T>& x,
                                             Pairs<T>& dy,
                                             float rstd,
                                             float inverse,
                                             int lanes,
                                             float (&sums)[2][Pairs<T>::N]) {
  constexpr int N = Pairs<T>::N;
  float first[N];
  float second[N];
  float dot_first = 0.0F;
  float dot_second = 0.0F;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float cos = angles[2 * k];
    const float sin = angles[2 * k + 1];
    first[k] = dy.a[k] * cos + dy.b[k] * sin;
    second[k] = dy.b[k] * cos - dy.a[k] * sin;
    dot_first += first[k] * weight.a[k] * x.a[k];
    dot_second += second[k] * weight.b[k] * x.b[k];
  }
  const float dot = device::GroupSum(dot_first + dot_second, lanes);
  // dx = rstd (g w - x rstd mean), with mean = rstd dot / e
  const float along_x = dot * rstd * rstd * rstd * inverse;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    first[k] *= rstd;
    second[k] *= rstd;
    sums[0][k] += first[k] * x.a[k];
    sums[1][k] += second[k] * x.b[k];
    first[k] = first[k] * weight.a[k] - x.a[k] * along_x;
    second[k] = second[k] * weight.b[k] - x.b[k] * along_x;
  }
  dy.a.Set(first);
  dy.b.Set(second);
}

// Adds up the weight's gradient over a block's lanes with the same elements and writes the block's part. `shared` has
// room for all of them, [warp and group][e].
template <typename T>
__device__ __forceinline__ void WriteSums(const Backward<T>& p,
                                          const Place<T>& at,
                                          const float (&sums)[2][Pairs<T>::N],
                                          float* shared) {
  constexpr int N = Pairs<T>::N;
  constexpr int kThreads = 32 * kBackwardWarps;
  float* own = shared + (threadIdx.x / 32 * at.groups + at.group) * p.e;
  __syncthreads();  // rows are staged in the same memory
#pragma unroll
  for (int k = 0; k < N; ++k) {
    own[at.i + k] = sums[0][k];
    own[at.i + at.half + k] = sums[1][k];
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < p.e; c += kThreads) {
    float sum = shared[c];
    for (int g = 1; g < kBackwardWarps * at.groups; ++g) {
      sum += shared[g * p.e + c];
    }
    p.partials[int64_t{blockIdx.x} * p.e + c] = sum;
  }
}

// The heads that a warp works on at once, and how many such pieces are on their way to shared memory or being worked
// on.
inline constexpr int kBackwardUnroll = 2;
inline constexpr int kStages = 2;

// Shared memory of a block: per warp and stage, dy and x of the piece, 16 bytes a lane at a time.
inline constexpr int kStageBytes = 2 * 2 * kBackwardUnroll * 32 * 16;
inline constexpr int kPipeBytes = kBackwardWarps * kStages * kStageBytes;

// Where a warp is: a piece of the heads of a row.
struct Cursor {
  int64_t row;
  int64_t first_head;  // of the piece, among those of all rows
  int base = 0;        // the same, within the row

  __device__ Cursor(int64_t begin, int h) : row(begin), first_head(begin * h) {}

  __device__ __forceinline__ void Advance(int heads, int h, int64_t step) {
    base += heads;
    first_head += heads;
    if (base >= h) {
      first_head += step * h - base;
      base = 0;
      row += step;
    }
  }
};

// Queues a warp's piece as a group of copies of its own; every lane reads what it has queued itself, and nothing else.
// Zeros where there is no such head.
template <typename T>
__device__ __forceinline__ void Fetch(
    const Backward<T>& p, const Place<T>& at, const Cursor& cursor, int64_t last, unsigned char* stage) {
  const int64_t first = cursor.first_head * p.e;
#pragma unroll
  for (int u = 0; u < kBackwardUnroll; ++u) {
    const int head = u * at.groups + at.group;
    const bool valid = cursor.row < last && cursor.base + head < p.h;
    const int64_t offset = valid ? first + (head * p.e + at.i) : 0;
    const uint32_t to = device::SharedAddress(stage) + static_cast<uint32_t>(u * 4 * 512);
    device::CopyAsyncOrZeros(to, p.dy + offset, valid);
    device::CopyAsyncOrZeros(to + 512, p.dy + offset + at.half, valid);
    device::CopyAsyncOrZeros(to + 1024, p.x + offset, valid);
    device::CopyAsyncOrZeros(to + 1536, p.x + offset + at.half, valid);
  }
  device::CommitCopies();
}

template <typename T>
__device__ __forceinline__ void LoadRstd(
    const Backward<T>& p, const Place<T>& at, const Cursor& cursor, int64_t last, float (&rstd)[kBackwardUnroll]) {
#pragma unroll
  for (int u = 0; u < kBackwardUnroll; ++u) {
    const int head = u * at.groups + at.group;
    rstd[u] = cursor.row < last && cursor.base + head < p.h ? p.rstd[cursor.first_head + head] : 0.0F;
  }
}

// The angles of a warp's rows, one row after the other. Positions take divisions: every lane works out one, for 32
// rows.
template <typename T>
class RowAngles {
 public:
  __device__ explicit RowAngles(const device::BlockRows& rows) : row_(rows.first + threadIdx.x / 32) {}

  // Those of the next row; nothing behind the last.
  __device__ __forceinline__ void Load(const Backward<T>& p,
                                       const device::BlockRows& rows,
                                       const Place<T>& at,
                                       device::Vector<float, 2 * Pairs<T>::N>& angles) {
    const int64_t of_lane = row_ + threadIdx.x % 32 * rows.step;
    if (turn_ == 0 && of_lane < rows.last) {
      position_ = p.layout.Position(of_lane + p.first_row);
    }
    const int64_t position = __shfl_sync(0xffffffffU, position_, turn_);
    if (row_ < rows.last) {
      angles.Load(p.table + (position * at.half + at.i) * 2);
    }
    row_ += rows.step;
    turn_ = (turn_ + 1) % 32;
  }

 private:
  int64_t row_;
  int turn_ = 0;
  int32_t position_ = 0;
};

template <typename T>
__global__ void __launch_bounds__(32 * kBackwardWarps, 3) BackwardKernel(const Backward<T> p) {
  device::WaitForKernelBefore();
  constexpr int N = Pairs<T>::N;
  extern __shared__ __align__(16) unsigned char memory[];
  const Place<T> at(p.e);
  const device::BlockRows rows(p.segments, kBackwardWarps);
  const int heads = kBackwardUnroll * at.groups;
  unsigned char* own = memory + threadIdx.x / 32 * (kStages * kStageBytes) + threadIdx.x % 32 * 16;
  Cursor at_work(rows.first + threadIdx.x / 32, p.h);
  Cursor fetched = at_work;
  for (int s = 0; s < kStages - 1; ++s) {
    Fetch(p, at, fetched, rows.last, own + s * kStageBytes);
    fetched.Advance(heads, p.h, rows.step);
  }
  Pairs<T> weight;
  weight.Load(rows.second ? p.weight_summary : p.weight, at.i, at.half);
  device::Vector<float, 2 * N> angles;
  device::Vector<float, 2 * N> next_angles;
  RowAngles<T> row_angles(rows);
  row_angles.Load(p, rows, at, next_angles);
  float next_rstd[kBackwardUnroll];
  LoadRstd(p, at, at_work, rows.last, next_rstd);
  const float inverse = 1.0F / static_cast<float>(p.e);
  float sums[2][N] = {};
  int stage = 0;
  while (at_work.row < rows.last) {
    Fetch(p, at, fetched, rows.last, own + (stage == 0 ? kStages - 1 : stage - 1) * kStageBytes);
    fetched.Advance(heads, p.h, rows.step);
    if (at_work.base == 0) {
      angles = next_angles;
      row_angles.Load(p, rows, at, next_angles);
    }
    float rstd[kBackwardUnroll];
#pragma unroll
    for (int u = 0; u < kBackwardUnroll; ++u) {
      rstd[u] = next_rstd[u];
    }
    const Cursor here = at_work;
    at_work.Advance(heads, p.h, rows.step);
    LoadRstd(p, at, at_work, rows.last, next_rstd);
    device::WaitForCopies<kStages - 1>();
    T* to = p.dx + here.first_head * p.e;
#pragma unroll
    for (int u = 0; u < kBackwardUnroll; ++u) {
      const int head = u * at.groups + at.group;
      const auto* in = reinterpret_cast<const T*>(own + stage * kStageBytes + u * 4 * 512);
      Pairs<T> dy;
      Pairs<T> x;
      dy.Load(in, 0, 512 / sizeof(T));
      x.Load(in + 1024 / sizeof(T), 0, 512 / sizeof(T));
      BackwardHead<T>(angles, weight, x, dy, rstd[u], inverse, at.lanes, sums);
      if (here.base + head < p.h) {
        dy.Store(to + head * p.e, at.i, at.half);
      }
    }
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  if (p.partials != nullptr) {
    device::WaitForCopies<0>();  // zeros for pieces behind the last, which would land on sums
    WriteSums<T>(p, at, sums, reinterpret_cast<float*>(memory));
  }
}

// A block of one warp takes a row.
template <typename T>
__global__ void __launch_bounds__(32) ForwardAnyKernel(const Forward<T> p) {
  device::WaitForKernelBefore();
  const int64_t row = blockIdx.x;
  const int half = p.e / 2;
  const float* angles = p.table + int64_t{p.layout.Position(row + p.first_row)} * p.e;
  const T* weight = row < p.split ? p.weight : p.weight_summary;
  for (int head = 0; head < p.h; ++head) {
    const T* x = p.x + (row * p.h + head) * p.e;
    T* y = p.y + (row * p.h + head) * p.e;
    float rstd = 1.0F;
    if (weight != nullptr) {
      float squares = 0.0F;
      for (int i = static_cast<int>(threadIdx.x); i < p.e; i += 32) {
        squares += static_cast<float>(x[i]) * static_cast<float>(x[i]);
      }
      rstd = device::ReciprocalRoot(device::WarpSum(squares) / static_cast<float>(p.e) + p.eps);
      if (threadIdx.x == 0) {
        p.rstd[row * p.h + head] = rstd;
      }
    }
    for (int i = static_cast<int>(threadIdx.x); i < half; i += 32) {
      const float w1 = weight == nullptr ? 1.0F : static_cast<float>(weight[i]);
      const float w2 = weight == nullptr ? 1.0F : static_cast<float>(weight[i + half]);
      const float x1 = static_cast<float>(x[i]) * rstd * w1;
      const float x2 = static_cast<float>(x[i + half]) * rstd * w2;
      const float sin = p.direction * angles[2 * i + 1];
      y[i] = T(x1 * angles[2 * i] - x2 * sin);
      y[i + half] = T(x2 * angles[2 * i] + x1 * sin);
    }
  }
}

// A block of one warp takes rows of its segment. The weight's gradient grows in the block's row of scratch, where every
// lane has its elements.
template <typename T>
__global__ void __launch_bounds__(32) BackwardAnyKernel(const Backward<T> p) {
  device::WaitForKernelBefore();
  const device::BlockRows rows(p.segments, 1);
  const int half = p.e / 2;
  const T* weight = rows.second ? p.weight_summary : p.weight;
  float* sums = p.partials == nullptr ? nullptr : p.partials + int64_t{blockIdx.x} * p.e;
  for (int i = static_cast<int>(threadIdx.x); i < half && sums != nullptr; i += 32) {
    sums[i] = 0.0F;
    sums[i + half] = 0.0F;
  }
  for (int64_t row = rows.first; row < rows.last; row += rows.step) {
    const float* angles = p.table + int64_t{p.layout.Position(row + p.first_row)} * p.e;
    for (int head = 0; head < p.h; ++head) {
      const int64_t offset = (row * p.h + head) * p.e;
      const auto turned = [&](int i, float& g1, float& g2) {
        const float d1 = static_cast<float>(p.dy[offset + i]);
        const float d2 = static_cast<float>(p.dy[offset + i + half]);
        g1 = d1 * angles[2 * i] + d2 * angles[2 * i + 1];
        g2 = d2 * angles[2 * i] - d1 * angles[2 * i + 1];
      };
      const float rstd = p.rstd[row * p.h + head];
      float dot = 0.0F;
      for (int i = static_cast<int>(threadIdx.x); i < half; i += 32) {
        float g1 = 0.0F;
        float g2 = 0.0F;
        turned(i, g1, g2);
        dot += g1 * static_cast<float>(weight[i]) * static_cast<float>(p.x[offset + i]) +
               g2 * static_cast<float>(weight[i + half]) * static_cast<float>(p.x[offset + i + half]);
      }
      const float mean = device::WarpSum(dot) * rstd / static_cast<float>(p.e);
      for (int i = static_cast<int>(threadIdx.x); i < half; i += 32) {
        float g1 = 0.0F;
        float g2 = 0.0F;
        turned(i, g1, g2);
        const float n1 = static_cast<float>(p.x[offset + i]) * rstd;
        const float n2 = static_cast<float>(p.x[offset + i + half]) * rstd;
        if (sums != nullptr) {
          sums[i] += g1 * n1;
          sums[i + half] += g2 * n2;
        }
        p.dx[offset + i] = T(rstd * (g1 * static_cast<float>(weight[i]) - n1 * mean));
        p.dx[offset + i + half] = T(rstd * (g2 * static_cast<float>(weight[i + half]) - n2 * mean));
      }
    }
  }
}

}  // namespace ksa::cuda::rope
