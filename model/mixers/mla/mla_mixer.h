// A layer of attention whose queries, keys and values come of latents.
#pragma once

#include <memory>
#include <string>

#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/attention_rows.h"
#include "model/mixers/mla/mla.h"

namespace ksa {

// With tensor ranks each has its own heads; what lies before them (q_a, kv_a and the latents' norms) is on every rank,
// and its gradient a part of a sum.
struct MlaWeights {
  WeightPair q;                  // [h·(p + r), d]; null with a latent of queries
  WeightPair q_a;                // [q_lora_rank, d]; null without
  WeightPair q_norm;             // [q_lora_rank]
  Parameter* q_b = nullptr;      // [h·(p + r), q_lora_rank]
  WeightPair kv_a;               // [kv_lora_rank + r, d], the rows of the rotary part last
  WeightPair kv_norm;            // [kv_lora_rank]
  Parameter* kv_b = nullptr;     // [h·(p + c), kv_lora_rank]: a head is [p of its key | value]
  Parameter* q_conv = nullptr;   // [h·(p + r), 1, taps]; null: no convolution
  Parameter* kv_conv = nullptr;  // [kv_lora_rank + r, 1, taps]
  Parameter* out = nullptr;      // [d, h·c]
};

class BoundMla final : public BoundMixer, public ShowsAttention {
 public:
  BoundMla(const MlaWeights& weights,
           const MlaConfig& config,
           const AttentionWindow& window,
           const AttentionOptions& options,
           const TensorView& rope_table)
      : weights_(weights), config_(config), window_(window), options_(options), rope_table_(rope_table) {}

  [[nodiscard]] AttentionRows RowsOf(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;

  [[nodiscard]] Var Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;
  [[nodiscard]] std::unique_ptr<LayerCache> MakeCache(const ExecContext& cx, const CacheSpec& spec) const override;

  // What a row leaves behind: all that decoding would keep of it.
  struct Latents {
    Var latent;  // [RowsIn, kv_lora_rank], normed
    Var rope;    // [RowsIn, r], rotated
  };

  // `entered`: the rows as products take them.
  [[nodiscard]] Latents MakeLatents(const ExecContext& cx, const Var& entered, const MixerCall& call) const;
  [[nodiscard]] Var MakeQueries(const ExecContext& cx, const Var& entered, const MixerCall& call) const;

 private:
  [[nodiscard]] Var Product(const ExecContext& cx, const Var& x, const WeightPair& weight, const MixerCall& call) const;
  [[nodiscard]] Var Norm(
      const ExecContext& cx, const Var& x, const WeightPair& weight, int64_t text_rows, bool own) const;
  // `queries`: of the two that a layer has.
  [[nodiscard]] Var Convolve(
      const ExecContext& cx, const Var& x, Parameter* taps, bool queries, const MixerCall& call) const;
  [[nodiscard]] Var AttendToLatents(const ExecContext& cx,
                                    const Var& q,
                                    const Tensor& rows,
                                    const MixerCall& call) const;
  [[nodiscard]] Var Rotate(const ExecContext& cx, const Var& x, int head_dim, const MixerCall& call) const;
  [[nodiscard]] bool Mixes(const Var& x, const WeightPair& weight, const MixerCall& call) const;

  MlaWeights weights_;
  MlaConfig config_;
  AttentionWindow window_;
  AttentionOptions options_;
  TensorView rope_table_;  // [positions, r/2, 2]
};

class MlaMixer final : public AttentionMixer {
 public:
  using AttentionMixer::AttentionMixer;

  void AddParameters(const ModelConfig& config, bool own, ParameterList& list) const override;
  [[nodiscard]] std::unique_ptr<BoundMixer> Bind(const ModelConfig& config,
                                                 const LayerParameters& parameters,
                                                 RopeTables& ropes) const override;
  [[nodiscard]] std::string TensorProblem(const ModelConfig& config, int32_t ranks) const override;
  [[nodiscard]] CacheSize CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const override;
};

}  // namespace ksa
