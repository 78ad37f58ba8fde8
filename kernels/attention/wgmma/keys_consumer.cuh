// What a consumer warpgroup of backward_keys.cu does with one item, and how it writes the item's gradients.
#pragma once

#include <cstdint>

#include "kernels/attention/wgmma/keys_plan.cuh"
#include "kernels/attention/wgmma/keys_shared.cuh"
#include "kernels/core/dtype.h"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/wgmma.cuh"

namespace ksa::cuda_attention::wgmma {

// What consumers have in common. kDim, kValueDim: columns of a head of keys, and of values.
template <int kDim, int kValueDim>
class KeysConsumerBase {
 public:
  using Shared = KeysShared<kDim, kValueDim>;

  __device__ __forceinline__ KeysConsumerBase(Shared& shared, int32_t consumer, const Problem& problem)
      : shared_(shared),
        consumer_(consumer),
        lane_(static_cast<int32_t>(threadIdx.x % 32)),
        queries_per_kv_(problem.queries_per_kv),
        scale_log2_(problem.scale_log2) {}

 protected:
  static constexpr uint32_t kKeyBlockBytes = kTileKeys * 128;        // 64 columns of a tile of keys
  static constexpr uint32_t kQueryBlockBytes = kBlockQueries * 128;  // of a tile of queries

  // An item's gradients, and its keys' descriptors.
  __device__ __forceinline__ void Begin(float (&dk)[kDim / 2], float (&dv)[kValueDim / 2]) {
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) {
      dk[i] = 0.0F;
    }
#pragma unroll
    for (int i = 0; i < kValueDim / 2; ++i) {
      dv[i] = 0.0F;
    }
    k_ = device::Descriptor(&shared_.k[0][consumer_ * kGroupKeys][0], 16, 1024);
    v_ = device::Descriptor(&shared_.v[0][consumer_ * kGroupKeys][0], 16, 1024);
  }

  // Whether this consumer's keys are seen by the block's queries, if there is a block, and by all of them.
  __device__ __forceinline__ void LookAt(const KeyTilePlan& plan, const BlockCursor& cursor) {
    const int4& seen = plan.segment[cursor.segment].seen[consumer_];
    const int32_t row = plan.Row(cursor);
    needed_ = cursor.left > 0 && row < seen.y && row + kBlockQueries > seen.x;
    masked_ = row < seen.z || row + kBlockQueries > seen.w;
  }

  // All lanes are done with a buffer that tensor cores have read.
  __device__ __forceinline__ void Release(uint64_t* empty) const {
    __syncwarp();
    if (lane_ == 0) {
      device::Arrive(empty);
    }
  }

  // Keys and values are done with when no block is left; `cursor` has just come here.
  __device__ __forceinline__ void ReleaseKeysAfter(const BlockCursor& cursor) const {
    if (cursor.left == 0) {
      Release(&shared_.keys_empty);
    }
  }

  __device__ __forceinline__ void Skip() {
    device::Wait(&shared_.query_full[ring_.stage], ring_.parity);
    device::Wait(&shared_.out_full[ring_.stage], ring_.parity);
    Release(&shared_.query_empty[ring_.stage]);
    device::Arrive(&shared_.out_empty[ring_.stage]);
    ring_.Next();
  }

  // product [64 keys, 2·kCount queries] of rows of `keys` and of `queries`, both kColumns wide.
  template <int kColumns, int kCount>
  __device__ __forceinline__ static void ProductOfRows(uint64_t keys, uint64_t queries, float (&product)[kCount]) {
#pragma unroll
    for (int step = 0; step < kColumns / 16; ++step) {
      const uint32_t inside = step % 4 * 32;
      device::WgmmaSs<2 * kCount>(product,
                                  device::Advance(keys, step / 4 * kKeyBlockBytes + inside),
                                  device::Advance(queries, step / 4 * kQueryBlockBytes + inside),
                                  step > 0);
    }
  }

  // sum += weights · rows, as many rows of a tile of queries as there are weights; `rows`: where they begin.
  template <int kSteps, int kCount>
  __device__ __forceinline__ static void AddProduct(const uint32_t (&weights)[kSteps][4],
                                                    const void* rows,
                                                    float (&sum)[kCount]) {
    const uint64_t tile = device::Descriptor(rows, kQueryBlockBytes, 1024);
    device::WgmmaFence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      device::WgmmaRs<2 * kCount, true>(sum, weights[step], device::Advance(tile, step * 2048), true);
    }
    device::WgmmaCommit();
  }

  // P = 2^(S · scale_log2 - lse)
  template <int kCount>
  __device__ __forceinline__ void Exponentiate(const float* minus_lse, float (&s)[kCount]) const {
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j) {
      const float2 lse = *reinterpret_cast<const float2*>(minus_lse + 8 * j + 2 * (lane_ % 4));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        s[4 * j + i] = device::Exp2(fmaf(s[4 * j + i], scale_log2_, i % 2 == 0 ? lse.x : lse.y));
      }
    }
  }

  // dS = P (dP - delta)
  template <int kCount>
  __device__ __forceinline__ void Differentiate(const float* minus_delta,
                                                const float (&p)[kCount],
                                                float (&dp)[kCount]) const {
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j) {
      const float2 delta = *reinterpret_cast<const float2*>(minus_delta + 8 * j + 2 * (lane_ % 4));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        dp[4 * j + i] = p[4 * j + i] * (dp[4 * j + i] + (i % 2 == 0 ? delta.x : delta.y));
      }
    }
  }

  // P = 0 where a key isn't seen by the rows of queries from `row` on. On P and not on S, which rows of other sequences
  // may make infinite.
  template <int kCount>
  __device__ __forceinline__ void Mask(const KeyTilePlan& plan,
                                       int32_t segment,
                                       int32_t row,
                                       float (&p)[kCount]) const {
    const int32_t key = consumer_ * kGroupKeys + static_cast<int32_t>(threadIdx.x % 128 / 32 * 16) + lane_ / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int4 readers = plan.readers[key + 8 * i];
      const int32_t begin = segment == 0 ? readers.x : readers.z;
      const int32_t end = segment == 0 ? readers.y : readers.w;
      const auto count = static_cast<uint32_t>(max(end - begin, 0));
      const auto first = static_cast<uint32_t>(row + 2 * (lane_ % 4) - begin);
#pragma unroll
      for (int j = 0; j < kCount / 4; ++j) {
        p[4 * j + 2 * i] = first + 8 * j < count ? p[4 * j + 2 * i] : 0.0F;
        p[4 * j + 2 * i + 1] = first + 8 * j + 1 < count ? p[4 * j + 2 * i + 1] : 0.0F;
      }
    }
  }

  template <int kCount>
  __device__ __forceinline__ static void Pack(const float (&x)[kCount], uint32_t (&packed)[kCount / 8][4]) {
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      packed[i / 4][i % 4] = device::PackBFloat16(x[2 * i], x[2 * i + 1]);
    }
  }

  Shared& shared_;
  const int32_t consumer_;
  const int32_t lane_;
  const int32_t queries_per_kv_;
  const float scale_log2_;
  uint64_t k_ = 0;  // descriptors
  uint64_t v_ = 0;
  bool needed_ = false;  // the block at the cursor
  bool masked_ = false;
  Ring<Shared::kStages> ring_;  // at the same block
};

template <int kDim>
class KeysConsumer : public KeysConsumerBase<kDim, kDim> {
  using Base = KeysConsumerBase<kDim, kDim>;
  using Base::AddProduct;
  using Base::consumer_;
  using Base::Differentiate;
  using Base::Exponentiate;
  using Base::k_;
  using Base::lane_;
  using Base::LookAt;
  using Base::Mask;
  using Base::masked_;
  using Base::needed_;
  using Base::Pack;
  using Base::queries_per_kv_;
  using Base::Release;
  using Base::ReleaseKeysAfter;
  using Base::ring_;
  using Base::shared_;
  using Base::Skip;
  using Base::v_;

 public:
  using Base::Base;

  // dk (without scale) and dv of this consumer's keys over the item's blocks, which begin at `cursor`. Releases keys
  // and values.
  __device__ __forceinline__ void Accumulate(const KeyTilePlan& plan,
                                             BlockCursor cursor,
                                             float (&dk)[kDim / 2],
                                             float (&dv)[kDim / 2]) {
    this->Begin(dk, dv);
    LookAt(plan, cursor);
    ReleaseKeysAfter(cursor);
    while (cursor.left > 0) {
      if (needed_) {
        Run(plan, cursor, dk, dv);
      } else {
        Skip();
        plan.Next(queries_per_kv_, cursor);
        ReleaseKeysAfter(cursor);
        LookAt(plan, cursor);
      }
    }
    device::Pin(dk);
    device::Pin(dv);
  }

 private:
  struct Scores {
    float s[kBlockQueries / 2];   // S, then P
    float dp[kBlockQueries / 2];  // dP, then dS
    uint32_t p16[kBlockQueries / 16][4];
    uint32_t ds16[kBlockQueries / 16][4];
  };

  // Blocks from `cursor` up to the next one that need not be looked at. Nothing is under way where the loop turns.
  __device__ __forceinline__ void Run(const KeyTilePlan& plan,
                                      BlockCursor& cursor,
                                      float (&dk)[kDim / 2],
                                      float (&dv)[kDim / 2]) {
    Scores scores;
    int32_t query = ring_.stage;
    device::Wait(&shared_.query_full[query], ring_.parity);
    IssueScores(scores.s);
    IssueOutScores(scores.dp);
    Block<true>(plan, 0, cursor, scores, dv);
    while (needed_) {
      const int32_t last = query;
      query = ring_.stage;
      IssueScores(scores.s);
      IssueOutScores(scores.dp);
      AddProduct(scores.ds16, &shared_.q[last], dk);
      Block<false>(plan, last, cursor, scores, dv);
    }
    AddProduct(scores.ds16, &shared_.q[query], dk);
    device::WgmmaWait<0>();
    Release(&shared_.query_empty[query]);
  }

  // S = K Q^T with the queries that come next, which are there.
  __device__ __forceinline__ void IssueScores(float (&s)[kBlockQueries / 2]) {
    const uint64_t q = device::Descriptor(&shared_.q[ring_.stage], 16, 1024);
    device::WgmmaFence();
    this->template ProductOfRows<kDim>(k_, q, s);
    device::WgmmaCommit();
  }

  // dP = V dO^T
  __device__ __forceinline__ void IssueOutScores(float (&dp)[kBlockQueries / 2]) {
    device::Wait(&shared_.out_full[ring_.stage], ring_.parity);
    const uint64_t dout = device::Descriptor(&shared_.dout[ring_.stage], 16, 1024);
    device::WgmmaFence();
    this->template ProductOfRows<kDim>(v_, dout, dp);
    device::WgmmaCommit();
  }

  // P, dS and dV of a block whose S and dP are under way, and behind them, unless this is the first, the dK of the
  // block before (in query stage `last`). Leaves `cursor` at the next block, which has been looked at and, if it is
  // needed, whose queries are there: what can be known before the tensor cores are done must not come after.
  template <bool kFirst>
  __device__ __forceinline__ void Block(
      const KeyTilePlan& plan, int32_t last, BlockCursor& cursor, Scores& scores, float (&dv)[kDim / 2]) {
    const int32_t stage = ring_.stage;
    device::WgmmaWait<kFirst ? 1 : 2>();
    device::Pin(scores.s);
    Exponentiate(shared_.minus_lse[stage], scores.s);
    if (masked_) {
      Mask(plan, cursor.segment, plan.Row(cursor), scores.s);
    }
    Pack(scores.s, scores.p16);
    if constexpr (!kFirst) {
      device::WgmmaWait<0>();
      Release(&shared_.query_empty[last]);
    }
    AddProduct(scores.p16, &shared_.dout[stage], dv);
    ring_.Next();
    plan.Next(queries_per_kv_, cursor);
    LookAt(plan, cursor);
    if (needed_) {
      device::Wait(&shared_.query_full[ring_.stage], ring_.parity);
    }
    device::WgmmaWait<1>();
    device::Pin(scores.dp);
    ReleaseKeysAfter(cursor);
    Differentiate(shared_.minus_delta[stage], scores.s, scores.dp);
    Pack(scores.dp, scores.ds16);
    device::WgmmaWait<0>();
    device::Arrive(&shared_.out_empty[stage]);
  }
};

// Lane t of four neighbours gets what they hold in x[t], in their order.
__device__ __forceinline__ void TransposeAmongFour(uint32_t (&x)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (threadIdx.x & bit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) == 0) {
        const uint32_t got = __shfl_xor_sync(0xffffffffU, upper ? x[i] : x[i + bit], bit);
        (upper ? x[i] : x[i + bit]) = got;
      }
    }
  }
}

// A consumer's rows of a gradient to its rows [*, e] of `to`, `pitch` elements apart. `kept`: of the two keys of this
// thread, whether they are stored, and whether anybody sees them.
template <int kDim>
__device__ __forceinline__ void StoreGradient(const float (&x)[kDim / 2],
                                              float factor,
                                              const bool (&stored)[2],
                                              const bool (&seen)[2],
                                              int64_t pitch,
                                              BFloat16* to) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < kDim / 8; j += 4) {
      uint32_t pairs[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float low = factor * x[4 * (j + n) + 2 * i];
        const float high = factor * x[4 * (j + n) + 2 * i + 1];
        pairs[n] = seen[i] ? device::PackBFloat16(low, high) : 0;
      }
      TransposeAmongFour(pairs);
      if (stored[i]) {
        *reinterpret_cast<uint4*>(to + 8 * i * pitch + 8 * (j + lane % 4)) = {pairs[0], pairs[1], pairs[2], pairs[3]};
      }
    }
  }
}

template <int kDim>
__device__ __forceinline__ void StorePart(const float (&x)[kDim / 2], const bool (&seen)[2], float* to) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      const float2 pair = {x[4 * j + 2 * i], x[4 * j + 2 * i + 1]};
      *reinterpret_cast<float2*>(to + 8 * i * kDim + 8 * j + 2 * (lane % 4)) = seen[i] ? pair : float2{0.0F, 0.0F};
    }
  }
}

template <int kDim, int kValueDim>
__device__ __forceinline__ void StoreItem(const KeysParameters& p,
                                          const KeyTilePlan& plan,
                                          const WorkItem& item,
                                          int32_t consumer,
                                          const float (&dk)[kDim / 2],
                                          const float (&dv)[kValueDim / 2]) {
  const auto thread = static_cast<int32_t>(threadIdx.x % 128);
  const int32_t key = consumer * kGroupKeys + thread / 32 * 16 + thread % 32 / 4;
  bool stored[2];
  bool seen[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int4 readers = plan.readers[key + 8 * i];
    stored[i] = key + 8 * i < plan.keys;
    seen[i] = readers.x < readers.y || readers.z < readers.w;
  }
  if (item.slot >= 0) {
    constexpr bool kAlike = kDim == kValueDim;  // then in one multiplication
    const int64_t at = kAlike ? (int64_t{item.slot} * 2 * kTileKeys + key) * kDim
                              : int64_t{item.slot} * (kTileKeys * (kDim + kValueDim)) + key * kDim;
    float* to = p.parts + at;
    StorePart<kDim>(dk, seen, to);
    StorePart<kValueDim>(dv, seen, to + (kTileKeys * kDim + key * (kValueDim - kDim)));
    return;
  }
  const int64_t pitch = int64_t{p.problem.groups} * kDim;
  const int64_t value_pitch = int64_t{p.problem.groups} * kValueDim;
  const int64_t at = (int64_t{plan.key_row} + key) * pitch + item.group * kDim;
  const int64_t value_at = (int64_t{plan.key_row} + key) * value_pitch + item.group * kValueDim;
  StoreGradient<kDim>(dk, p.problem.scale, stored, seen, pitch, p.dk + at);
  StoreGradient<kValueDim>(dv, 1.0F, stored, seen, value_pitch, p.dv + value_at);
}

}  // namespace ksa::cuda_attention::wgmma
