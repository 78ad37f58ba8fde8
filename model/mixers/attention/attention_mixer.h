// Softmax attention with grouped heads, q/k norm and rotary positions on segregated rows: what the kinds ksa, full, swa
// and sca share. They differ in the window alone.
#pragma once

#include <memory>
#include <string>

#include "kernels/core/summary_layout.h"
#include "model/mixers/mixer.h"

namespace ksa {

struct AttentionWeights {
  WeightPair q;              // [h·e, d]
  WeightPair k;              // [g·e, d]
  WeightPair v;              // [g·e, d]
  WeightPair q_norm;         // [e]; null: no norm
  WeightPair k_norm;         // [e]
  Parameter* out = nullptr;  // [d, h·e]
};

class BoundAttention final : public BoundMixer {
 public:
  // `rope_table`: [positions, e/2, 2]
  BoundAttention(const AttentionWeights& weights,
                 const AttentionWindow& window,
                 const TensorView& rope_table,
                 int head_dim,
                 double eps)
      : weights_(weights), window_(window), rope_table_(rope_table), head_dim_(head_dim), eps_(eps) {}

  [[nodiscard]] Var Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;

 private:
  // A projection: q, k or v.
  struct Part {
    const WeightPair* weight = nullptr;
    const WeightPair* norm = nullptr;  // null: neither norm nor rotation (v)
  };

  // Rows as attention reads them: normed, rotated, summary rows mixed while annealing.
  struct Projected {
    Var q;  // [RowsOut, h·e]
    Var k;  // [RowsIn, g·e]
    Var v;  // [RowsIn, g·e]
  };

  [[nodiscard]] Projected Project(const ExecContext& cx, const Var& normed, const MixerCall& call) const;
  [[nodiscard]] Var Attend(const ExecContext& cx, const Projected& rows, const MixerCall& call) const;
  [[nodiscard]] Var AttendOverRanks(const ExecContext& cx, const Var& normed, const MixerCall& call) const;

  [[nodiscard]] Var Finish(const ExecContext& cx, const Var& x, Var y, const Part& part, const MixerCall& call) const;
  [[nodiscard]] Var NormAndRope(
      const ExecContext& cx, const Var& x, const Part& part, const MixerCall& call, int64_t first_row, bool own) const;

  AttentionWeights weights_;
  AttentionWindow window_;
  TensorView rope_table_;
  int head_dim_;
  double eps_;
};

class AttentionMixer final : public Mixer {
 public:
  // `kind` lives as long as the program.
  AttentionMixer(const MixerKind& kind, const AttentionWindow& window) : kind_(kind), window_(window) {}

  [[nodiscard]] const AttentionWindow& window() const { return window_; }

  [[nodiscard]] const MixerKind& kind() const override { return kind_; }

  [[nodiscard]] bool Equals(const Mixer& other) const override;
  [[nodiscard]] std::optional<int32_t> SummaryWindow() const override;
  [[nodiscard]] bool SummariesAttend(const ModelConfig& config) const override;
  [[nodiscard]] bool IsFullAttention() const override;
  void AddParameters(const ModelConfig& config, bool own, ParameterList& list) const override;
  [[nodiscard]] std::unique_ptr<BoundMixer> Bind(const ModelConfig& config,
                                                 const LayerParameters& parameters,
                                                 RopeTables& ropes) const override;
  [[nodiscard]] std::string TensorProblem(const ModelConfig& config, int32_t ranks) const override;
  [[nodiscard]] CacheSize CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const override;

 private:
  const MixerKind& kind_;
  AttentionWindow window_;
};

[[nodiscard]] LayerSpec MakeAttentionLayer(const MixerKind& kind, const AttentionWindow& window);

// What text sees in a layer of one of these kinds; an Error(kInternal) for any other.
[[nodiscard]] const AttentionWindow& WindowOf(const Mixer& mixer);

}  // namespace ksa
