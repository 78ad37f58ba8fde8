// Summary queries, which see their own chunk alone: bound by reading its keys and values, once. Every other head dim
// and type than bf16 with 64 or 128 goes through the plain path.
//
// A warp takes one chunk and one key/value head, all its summary queries after another (their keys are in the L1 cache
// then). Runs of e / 8 lanes hold a row, so a warp reads 2 or 4 keys at a time, and several such in one go.
#include <algorithm>
#include <cstdint>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/device.cuh"
#include "kernels/attention/plain/plain.h"
#include "kernels/attention/vector.cuh"
#include "kernels/copy/copy_backends.h"
#include "kernels/core/cuda.h"
#include "kernels/core/error.h"
#include "kernels/device/mma.cuh"

namespace ksa::cuda_attention {
namespace {

constexpr int kWarps = 4;           // a block
constexpr float kNothing = -1e30F;  // a largest score before there is any; finite, so that differences are

struct Tensors {
  Problem problem;
  const BFloat16* q;
  const BFloat16* k;
  const BFloat16* v;
  BFloat16* out;  // forward
  float* lse;
  const BFloat16* dout;  // the rest: backward
  const float* delta;
  BFloat16* dq;
  BFloat16* dk;
  BFloat16* dv;
};

// One a chunk and key/value head of a sequence.
KSA_HOST_DEVICE inline uint32_t Warps(const Problem& problem) {
  return static_cast<uint32_t>(problem.layout.live_chunks * problem.groups);
}

// Sequence after sequence along x: along y a grid has room for 65,535 only.
KSA_HOST_DEVICE inline uint32_t BlocksOfSequence(const Problem& problem) {
  return (Warps(problem) + kWarps - 1) / kWarps;
}

// How the lanes of a warp share rows of kDim elements, and which chunk and key/value head the warp has.
template <int kDim>
struct Work {
  static constexpr int kLanes = kDim / 8;
  static constexpr int kRuns = 32 / kLanes;
  static constexpr int kBatch = kDim == 128 ? 5 : 3;  // keys of a run taken together: 8 and a summary in one go

  int run = static_cast<int>(threadIdx.x) / kLanes;
  int offset = static_cast<int>(threadIdx.x) % kLanes * 8;  // of the lane's elements in a row
  int32_t tokens;                                           // of the chunk
  int32_t rows;                                             // of the chunk's text, padding included
  int32_t pitch;                                            // elements from key to key
  int64_t text;  // where the lane's elements of text key 0 are, and of summary key 0 less `tokens` keys
  int64_t summaries;
  int64_t query;  // row of the first summary, times query heads, and the first query head

  __device__ Work(const Problem& p, uint32_t index) : pitch(p.groups * kDim) {
    const SummaryLayout& layout = p.layout;
    const auto place = static_cast<int32_t>(index / static_cast<uint32_t>(p.groups));
    const uint32_t group = index % static_cast<uint32_t>(p.groups);
    const auto sequence = static_cast<int32_t>(blockIdx.x / BlocksOfSequence(p));
    tokens = layout.ChunkTokens(sequence, layout.ChunkAt(place));
    rows = min(layout.chunk_size, layout.text_tokens - place * layout.chunk_size);
    const int64_t element = int64_t{group} * kDim + offset;
    const int64_t summary = layout.SummaryRow(sequence, place * layout.summary_tokens);
    text = layout.TextRow(sequence, place * layout.chunk_size) * pitch + element;
    summaries = (summary - tokens) * pitch + element;
    query = summary * p.heads + int64_t{group} * p.queries_per_kv;
  }

  // Where the lane's part of key j of the chunk lies: its text, then its summaries.
  __device__ int64_t Key(int32_t j) const { return (j < tokens ? text : summaries) + int64_t{j} * pitch; }
};

// In its sequence.
__device__ inline uint32_t WarpIndex(const Problem& problem) {
  return blockIdx.x % BlocksOfSequence(problem) * kWarps + threadIdx.y;
}

__device__ inline bool HasWork(const Problem& problem) {
  return WarpIndex(problem) < Warps(problem);
}

// Elements of keys `first`, `first` + kRuns, ...; the last one is repeated.
template <int kDim>
struct Batch {
  uint4 k[Work<kDim>::kBatch];
  uint4 v[Work<kDim>::kBatch];

  __device__ Batch(const Work<kDim>& work, const Tensors& t, int32_t first, int32_t count) {
    int64_t at[Work<kDim>::kBatch];
#pragma unroll
    for (int i = 0; i < Work<kDim>::kBatch; ++i) {
      at[i] = work.Key(min(first + i * Work<kDim>::kRuns, count - 1));
      k[i] = LoadVector(t.k + at[i]);
    }
#pragma unroll
    for (int i = 0; i < Work<kDim>::kBatch; ++i) {
      v[i] = LoadVector(t.v + at[i]);
    }
  }
};

// The online softmax of a run's keys.
struct RunSoftmax {
  float max = kNothing;
  float sum = 0.0F;
  Vector out;

  __device__ void Rescale(float next) {
    const float shrink = device::Exp2(max - next);
    max = next;
    sum *= shrink;
    out.Scale(shrink);
  }
};

template <int kDim>
__device__ void AddKeys(const Work<kDim>& work, const Tensors& t, const Vector& q, int32_t count, RunSoftmax& softmax) {
  constexpr int kBatch = Work<kDim>::kBatch;
  constexpr int kRuns = Work<kDim>::kRuns;
  for (int32_t base = 0; base < count; base += kBatch * kRuns) {
    const int32_t first = base + work.run;
    const Batch<kDim> keys(work, t, first, count);
    float score[kBatch];
    float next = softmax.max;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      score[i] = Dot<Work<kDim>::kLanes>(q, Vector(keys.k[i]));
      next = fmaxf(next, score[i]);
    }
    softmax.Rescale(next);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float weight = first + i * kRuns < count ? device::Exp2(score[i] - next) : 0.0F;
      softmax.sum += weight;
      softmax.out.Add(weight, Vector(keys.v[i]));
    }
  }
}

// Joins the runs of a warp: afterwards every one has the whole.
template <int kLanes>
__device__ void JoinRuns(RunSoftmax& softmax) {
#pragma unroll
  for (int lane = kLanes; lane < 32; lane *= 2) {
    softmax.Rescale(fmaxf(softmax.max, __shfl_xor_sync(0xffffffffU, softmax.max, lane)));
    softmax.sum += __shfl_xor_sync(0xffffffffU, softmax.sum, lane);
#pragma unroll
    for (float& element : softmax.out.x) {
      element += __shfl_xor_sync(0xffffffffU, element, lane);
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(32 * kWarps) SummaryForwardKernel(Tensors t) {
  if (!HasWork(t.problem)) {
    return;
  }
  const Work<kDim> work(t.problem, WarpIndex(t.problem));
  for (int a = 0; a < t.problem.layout.summary_tokens; ++a) {
    for (int member = 0; member < t.problem.queries_per_kv; ++member) {
      const int64_t at = work.query + a * t.problem.heads + member;
      Vector q(LoadVector(t.q + at * kDim + work.offset));
      q.Scale(t.problem.scale_log2);
      RunSoftmax softmax;
      AddKeys(work, t, q, work.tokens + a + 1, softmax);
      JoinRuns<Work<kDim>::kLanes>(softmax);
      if (work.run == 0) {
        softmax.out.Scale(1.0F / softmax.sum);
        softmax.out.Store(t.out + at * kDim + work.offset);
      }
      if (threadIdx.x == 0) {
        t.lse[at] = (softmax.max + log2f(softmax.sum)) * kLn2;
      }
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(32 * kWarps) SummaryBackwardQueriesKernel(Tensors t) {
  constexpr int kBatch = Work<kDim>::kBatch;
  constexpr int kRuns = Work<kDim>::kRuns;
  constexpr int kLanes = Work<kDim>::kLanes;
  if (!HasWork(t.problem)) {
    return;
  }
  const Work<kDim> work(t.problem, WarpIndex(t.problem));
  for (int a = 0; a < t.problem.layout.summary_tokens; ++a) {
    for (int member = 0; member < t.problem.queries_per_kv; ++member) {
      const int64_t at = work.query + a * t.problem.heads + member;
      Vector q(LoadVector(t.q + at * kDim + work.offset));
      q.Scale(t.problem.scale_log2);
      const Vector dout(LoadVector(t.dout + at * kDim + work.offset));
      const float lse = t.lse[at] * kLog2E;
      const float delta = t.delta[at];
      const int32_t count = work.tokens + a + 1;
      Vector dq;
      for (int32_t base = 0; base < count; base += kBatch * kRuns) {
        const int32_t first = base + work.run;
        const Batch<kDim> keys(work, t, first, count);
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const float weight = device::Exp2(Dot<kLanes>(q, Vector(keys.k[i])) - lse);
          const float dweight = Dot<kLanes>(dout, Vector(keys.v[i]));
          dq.Add(first + i * kRuns < count ? weight * (dweight - delta) : 0.0F, Vector(keys.k[i]));
        }
      }
#pragma unroll
      for (int lane = kLanes; lane < 32; lane *= 2) {
#pragma unroll
        for (float& element : dq.x) {
          element += __shfl_xor_sync(0xffffffffU, element, lane);
        }
      }
      if (work.run == 0) {
        dq.Scale(t.problem.scale);
        dq.Store(t.dq + at * kDim + work.offset);
      }
    }
  }
}

// A key in the registers of a run, with its gradients.
struct HeldKey {
  int64_t at;
  int32_t first_query;  // a summary key is seen from itself on
  Vector k;
  Vector v;
  Vector dk;
  Vector dv;
};

// Zeros for the rows of a chunk behind its last real token.
template <int kDim>
__device__ void ZeroPadding(const Work<kDim>& work, const Tensors& t) {
  for (int32_t key = work.tokens + work.run; key < work.rows; key += Work<kDim>::kRuns) {
    const int64_t at = work.text + int64_t{key} * work.pitch;
    Vector().Store(t.dk + at);
    Vector().Store(t.dv + at);
  }
}

// Gradients of the keys of a chunk, each run holding two at a time. kAdd: what is there of the text keys already is
// added to.
template <int kDim, bool kAdd>
__global__ void __launch_bounds__(32 * kWarps) SummaryKeysKernel(Tensors t) {
  constexpr int kRuns = Work<kDim>::kRuns;
  constexpr int kLanes = Work<kDim>::kLanes;
  constexpr int kHeld = 2;
  if (!HasWork(t.problem)) {
    return;
  }
  const Work<kDim> work(t.problem, WarpIndex(t.problem));
  const int m = t.problem.layout.summary_tokens;
  const int32_t count = work.tokens + m;
  if constexpr (!kAdd) {
    ZeroPadding(work, t);
  }
  for (int32_t base = work.run; base - work.run < count; base += kHeld * kRuns) {
    HeldKey keys[kHeld];
    uint4 dk[kHeld] = {};
    uint4 dv[kHeld] = {};
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int32_t key = min(base + i * kRuns, count - 1);  // idle runs repeat the last one, for the sums over lanes
      keys[i].at = work.Key(key);
      keys[i].first_query = key - work.tokens;
      keys[i].k = Vector(LoadVector(t.k + keys[i].at));
      keys[i].v = Vector(LoadVector(t.v + keys[i].at));
      if constexpr (kAdd) {
        dk[i] = LoadVector(t.dk + keys[i].at);
        dv[i] = LoadVector(t.dv + keys[i].at);
      }
    }
    for (int a = 0; a < m; ++a) {
      for (int member = 0; member < t.problem.queries_per_kv; ++member) {
        const int64_t at = work.query + a * t.problem.heads + member;
        const Vector q(LoadVector(t.q + at * kDim + work.offset));
        const Vector dout(LoadVector(t.dout + at * kDim + work.offset));
        const float lse = t.lse[at] * kLog2E;
        const float delta = t.delta[at];
#pragma unroll
        for (HeldKey& key : keys) {
          const float score = Dot<kLanes>(q, key.k) * t.problem.scale_log2;
          const float weight = a >= key.first_query ? device::Exp2(score - lse) : 0.0F;
          const float dweight = Dot<kLanes>(dout, key.v);
          key.dv.Add(weight, dout);
          key.dk.Add(weight * (dweight - delta) * t.problem.scale, q);
        }
      }
    }
    __syncwarp();  // all have read before one writes: idle runs hold the last key too
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (kAdd && keys[i].first_query < 0) {  // text
        keys[i].dk.Add(1.0F, Vector(dk[i]));
        keys[i].dv.Add(1.0F, Vector(dv[i]));
      }
      if (base + i * kRuns < count) {
        keys[i].dk.Store(t.dk + keys[i].at);
        keys[i].dv.Store(t.dv + keys[i].at);
      }
    }
  }
}

cuda::LaunchShape OneWarpAChunk(const Problem& p) {
  return {dim3(BlocksOfSequence(p) * static_cast<unsigned>(p.layout.sequences)), dim3(32, kWarps)};
}

template <typename Kernel>
void LaunchByDim(const char* name, const Tensors& t, const Stream& stream, Kernel kernel64, Kernel kernel128) {
  cuda::Launch(name, stream, OneWarpAChunk(t.problem), t.problem.dim == 64 ? kernel64 : kernel128, t);
}

Tensors BackwardTensors(const AttentionBackwardArgs& args, const TensorView& delta) {
  return {.problem = MakeProblem(args),
          .q = args.q.As<BFloat16>(),
          .k = args.k.As<BFloat16>(),
          .v = args.v.As<BFloat16>(),
          .out = nullptr,
          .lse = args.lse.As<float>(),
          .dout = args.dout.As<BFloat16>(),
          .delta = delta.As<float>(),
          .dq = args.dq.As<BFloat16>(),
          .dk = args.dk.As<BFloat16>(),
          .dv = args.dv.As<BFloat16>()};
}

template <typename Args>
bool HasSummaryQueries(const Args& args) {
  return args.q.rows() > args.layout.text_rows();
}

}  // namespace

void SummaryForward(const AttentionForwardArgs& args, const Stream& stream) {
  if (!HasSummaryQueries(args)) {
    return;
  }
  if (!AreRowsOfVectors(args.q, args.v)) {
    plain::ForwardRows(args, args.layout.text_rows(), args.layout.summary_rows(), stream);
    return;
  }
  const Tensors t = {.problem = MakeProblem(args),
                     .q = args.q.As<BFloat16>(),
                     .k = args.k.As<BFloat16>(),
                     .v = args.v.As<BFloat16>(),
                     .out = args.out.As<BFloat16>(),
                     .lse = args.lse.As<float>()};
  LaunchByDim("SummaryForwardKernel", t, stream, SummaryForwardKernel<64>, SummaryForwardKernel<128>);
}

void SummaryBackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  if (!HasSummaryQueries(args)) {
    return;
  }
  if (!AreRowsOfVectors(args.q, args.v)) {
    plain::BackwardQueryRows(args, delta, args.layout.text_rows(), args.layout.summary_rows(), stream);
    return;
  }
  LaunchByDim("SummaryBackwardQueriesKernel",
              BackwardTensors(args, delta),
              stream,
              SummaryBackwardQueriesKernel<64>,
              SummaryBackwardQueriesKernel<128>);
}

void SummaryAddToKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  KSA_CHECK(
      !args.window.summaries || LiveChunks(args.layout.first_chunk + args.layout.chunks(), args.window.chunks) == 0,
      "attention: summary keys that text sees get their gradients from BackwardKeys");
  if (!HasSummaryQueries(args) || !AreRowsOfVectors(args.q, args.v)) {
    plain::AddSummaryQueriesToKeys(args, delta, stream);
    return;
  }
  LaunchByDim("SummaryKeysKernel",
              BackwardTensors(args, delta),
              stream,
              SummaryKeysKernel<64, true>,
              SummaryKeysKernel<128, true>);
}

void SummaryBackwardKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const bool by_vectors = AreRowsOfVectors(args.q, args.v);
  const SummaryLayout& layout = args.layout;
  const int64_t live =
      by_vectors ? std::min<int64_t>(int64_t{layout.live_chunks} * layout.chunk_size, layout.text_tokens) : 0;
  for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
    const int64_t first = layout.TextRow(sequence, 0) + live;
    cuda::Zero(args.dk.Rows(first, layout.text_tokens - live), stream);
    cuda::Zero(args.dv.Rows(first, layout.text_tokens - live), stream);
  }
  if (!by_vectors) {
    plain::AddSummaryQueriesToKeys(args, delta, stream);
    return;
  }
  LaunchByDim("SummaryKeysKernel",
              BackwardTensors(args, delta),
              stream,
              SummaryKeysKernel<64, false>,
              SummaryKeysKernel<128, false>);
}

}  // namespace ksa::cuda_attention
