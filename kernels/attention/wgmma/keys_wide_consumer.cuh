// The consumer warpgroup of backward_keys.cu for keys that are wider than values: dk and dv take so many registers that
// queries are taken 32 at a time, in two pieces of a block.
#pragma once

#include <cstdint>

#include "kernels/attention/wgmma/keys_consumer.cuh"

namespace ksa::cuda_attention::wgmma {

template <int kDim, int kValueDim>
class WideKeysConsumer : public KeysConsumerBase<kDim, kValueDim> {
  using Base = KeysConsumerBase<kDim, kValueDim>;
  using Base::k_;
  using Base::masked_;
  using Base::needed_;
  using Base::queries_per_kv_;
  using Base::ring_;
  using Base::shared_;
  using Base::v_;

 public:
  using Base::Base;

  // As KeysConsumer's.
  __device__ __forceinline__ void Accumulate(const KeyTilePlan& plan,
                                             BlockCursor cursor,
                                             float (&dk)[kDim / 2],
                                             float (&dv)[kValueDim / 2]) {
    this->Begin(dk, dv);
    this->LookAt(plan, cursor);
    this->ReleaseKeysAfter(cursor);
    while (cursor.left > 0) {
      if (needed_) {
        RunBlock(plan, cursor, dk, dv);
      } else {
        this->Skip();
      }
      plan.Next(queries_per_kv_, cursor);
      this->ReleaseKeysAfter(cursor);
      this->LookAt(plan, cursor);
    }
    device::Pin(dk);
    device::Pin(dv);
  }

 private:
  static constexpr int kPieceQueries = 32;
  static constexpr int kPieces = kBlockQueries / kPieceQueries;

  // Nothing is under way where it begins and ends; within, the products of a piece's gradients run beside those of the
  // next piece's scores.
  __device__ __forceinline__ void RunBlock(const KeyTilePlan& plan,
                                           const BlockCursor& cursor,
                                           float (&dk)[kDim / 2],
                                           float (&dv)[kValueDim / 2]) {
    const int32_t stage = ring_.stage;
    device::Wait(&shared_.query_full[stage], ring_.parity);
    device::Wait(&shared_.out_full[stage], ring_.parity);
    uint32_t p16[kPieces][kPieceQueries / 16][4];
    uint32_t ds16[kPieces][kPieceQueries / 16][4];
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      constexpr int kCount = kPieceQueries / 2;
      const int first = piece * kPieceQueries;
      const void* q = &shared_.q[stage][0][first];
      const void* dout = &shared_.dout[stage][0][first];
      float s[kCount];   // S, then P
      float dp[kCount];  // dP, then dS
      device::WgmmaFence();
      this->template ProductOfRows<kDim>(k_, device::Descriptor(q, 16, 1024), s);
      device::WgmmaCommit();
      device::WgmmaFence();
      this->template ProductOfRows<kValueDim>(v_, device::Descriptor(dout, 16, 1024), dp);
      device::WgmmaCommit();
      device::WgmmaWait<1>();  // S, and the gradients of the piece before
      device::Pin(s);
      device::Pin(dk);
      device::Pin(dv);
      this->Exponentiate(shared_.minus_lse[stage] + first, s);
      if (masked_) {
        this->Mask(plan, cursor.segment, plan.Row(cursor) + first, s);
      }
      this->Pack(s, p16[piece]);
      this->AddProduct(p16[piece], dout, dv);
      device::WgmmaWait<1>();
      device::Pin(dp);
      this->Differentiate(shared_.minus_delta[stage] + first, s, dp);
      this->Pack(dp, ds16[piece]);
      this->AddProduct(ds16[piece], q, dk);
    }
    device::WgmmaWait<0>();
    this->Release(&shared_.query_empty[stage]);
    device::Arrive(&shared_.out_empty[stage]);
    ring_.Next();
  }
};

}  // namespace ksa::cuda_attention::wgmma
