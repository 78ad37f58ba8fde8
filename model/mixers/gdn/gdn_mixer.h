// A Gated DeltaNet layer. x [n, d]: normed rows of text.
//
//   q, k, v = SiLU(conv(W x))                  a causal convolution of a few taps, each channel by itself
//   g = -exp(A_log) softplus(W_a x + dt_bias)  the logarithm of what the state keeps, a number a head
//   beta = sigmoid(W_b x)                      how much is written; twice that with allow_neg_eigval
//   o = the gated delta rule of q, k (of length 1), v, g and beta (kernels/delta_rule)
//   y = W_o (norm(o) · SiLU(W_g x))            the norm by heads
#pragma once

#include <memory>
#include <string>

#include "model/mixers/gdn/gdn.h"
#include "model/mixers/mixer.h"

namespace ksa {

// With tensor ranks each has its own heads.
struct GdnWeights {
  Parameter* q = nullptr;        // [hk·dk, d]
  Parameter* k = nullptr;        // [hk·dk, d]
  Parameter* v = nullptr;        // [hv·dv, d]
  Parameter* gate = nullptr;     // [hv·dv, d]: of the output
  Parameter* a = nullptr;        // [hv, d]: decay
  Parameter* b = nullptr;        // [hv, d]: write strength
  Parameter* q_conv = nullptr;   // [hk·dk, 1, taps]
  Parameter* k_conv = nullptr;   // [hk·dk, 1, taps]
  Parameter* v_conv = nullptr;   // [hv·dv, 1, taps]
  Parameter* a_log = nullptr;    // [hv]
  Parameter* dt_bias = nullptr;  // [hv]
  Parameter* norm = nullptr;     // [dv]
  Parameter* out = nullptr;      // [d, hv·dv]
};

class BoundGdn final : public BoundMixer {
 public:
  BoundGdn(const GdnWeights& weights, const GdnConfig& config, double eps)
      : weights_(weights), config_(config), eps_(eps) {}

  [[nodiscard]] Var Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;
  [[nodiscard]] std::unique_ptr<LayerCache> MakeCache(const ExecContext& cx, const CacheSpec& spec) const override;

  // What the rule reads, of every row of text.
  struct Rows {
    Var q;     // [n, hk·dk], behind convolution and SiLU
    Var k;     // [n, hk·dk]
    Var v;     // [n, hv·dv]
    Var a;     // [n, hv]: W_a x
    Var b;     // [n, hv]: W_b x
    Var gate;  // [n, hv·dv]: W_g x
  };

  [[nodiscard]] Rows MakeRows(const ExecContext& cx, const Var& normed, const MixerCall& call) const;

 private:
  [[nodiscard]] Var Mix(const ExecContext& cx, const Rows& rows, const MixerCall& call) const;

  GdnWeights weights_;
  GdnConfig config_;
  double eps_;
};

class GdnMixer final : public Mixer {
 public:
  [[nodiscard]] const MixerKind& kind() const override { return GdnKind(); }

  [[nodiscard]] bool Equals(const Mixer& /*other*/) const override { return true; }

  // They have no place in a recurrence over text.
  [[nodiscard]] bool SummariesAttend(const ModelConfig& /*config*/) const override { return false; }

  void AddParameters(const ModelConfig& config, bool own, ParameterList& list) const override;
  [[nodiscard]] std::unique_ptr<BoundMixer> Bind(const ModelConfig& config,
                                                 const LayerParameters& parameters,
                                                 RopeTables& ropes) const override;
  [[nodiscard]] std::string TensorProblem(const ModelConfig& config, int32_t ranks) const override;
  [[nodiscard]] CacheSize CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const override;

  [[nodiscard]] std::string GpuProblem(const ModelConfig& config) const override;
};

}  // namespace ksa
