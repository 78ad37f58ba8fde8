// Softmax attention with grouped heads, q/k norm and rotary positions on segregated rows: what the kinds ksa, full, swa
// and sca share, which differ in the window alone; and what hca adds to.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/summary_layout.h"
#include "model/mixers/attention/options.h"
#include "model/mixers/attention_rows.h"
#include "model/mixers/kept_taps.h"
#include "model/mixers/mixer.h"
#include "model/ops/parallel_linear.h"

namespace ksa {

struct AttentionWeights {
  WeightPair q;                 // [h·e, d]
  WeightPair k;                 // [g·e, d]
  WeightPair v;                 // [g·e, d]
  WeightPair q_norm;            // [e]; null: no norm
  WeightPair k_norm;            // [e]
  Parameter* q_conv = nullptr;  // [h·e, 1, taps]; null: no convolution
  Parameter* k_conv = nullptr;  // [g·e, 1, taps]
  Parameter* v_conv = nullptr;  // [g·e, 1, taps]
  Parameter* out = nullptr;     // [d, h·e]
};

// A layer with all that its forward pass reads.
struct AttentionSetup {
  AttentionWeights weights;
  AttentionWindow window;
  AttentionOptions options;
  TensorView rope_table;  // [positions, e/2, 2]
  int head_dim = 0;
  double eps = 1e-6;
};

class BoundAttention : public BoundMixer, public ShowsAttention {
 public:
  explicit BoundAttention(const AttentionSetup& setup) : setup_(setup) {}

  [[nodiscard]] AttentionRows RowsOf(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;

  [[nodiscard]] Var Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;
  [[nodiscard]] std::unique_ptr<LayerCache> MakeCache(const ExecContext& cx, const CacheSpec& spec) const override;

 protected:
  // Rows as attention reads them: convolved, normed, rotated, summary rows mixed while annealing.
  struct Projected {
    Var q;                  // [RowsOut, h·e]
    Var k;                  // [RowsIn, g·e]
    Var v;                  // [RowsIn, g·e]
    Var k_product;          // of k, before norm, rotation and mix
    std::vector<Var> more;  // further products of the same rows
  };

  [[nodiscard]] const AttentionSetup& setup() const { return setup_; }

  [[nodiscard]] Projected Project(const ExecContext& cx,
                                  const Var& normed,
                                  const MixerCall& call,
                                  std::span<const ProductSpec> more) const;

  // What the convolutions of q, k and v keep.
  [[nodiscard]] std::array<KeptTaps, 3> TapsFor(const ExecContext& cx, const CacheSpec& spec) const;

 private:
  // A projection: q, k or v.
  struct Part {
    const WeightPair* weight = nullptr;
    Parameter* conv = nullptr;         // null: none
    const WeightPair* norm = nullptr;  // null: neither norm nor rotation (v)
    size_t number = 0;                 // of its taps among those that decoding keeps
  };

  [[nodiscard]] Var Attend(const ExecContext& cx, const Projected& rows, const MixerCall& call) const;
  [[nodiscard]] Var AttendOverRanks(const ExecContext& cx, const Var& normed, const MixerCall& call) const;

  [[nodiscard]] Var Convolve(const ExecContext& cx, const Var& x, const Part& part, const MixerCall& call) const;
  [[nodiscard]] Var Finish(const ExecContext& cx, const Var& x, Var y, const Part& part, const MixerCall& call) const;
  [[nodiscard]] Var NormAndRope(
      const ExecContext& cx, const Var& x, const Part& part, const MixerCall& call, int64_t first_row, bool own) const;

  AttentionSetup setup_;
};

class AttentionMixer : public Mixer {
 public:
  // `kind` lives as long as the program.
  AttentionMixer(const MixerKind& kind, const AttentionWindow& window, const AttentionOptions& options)
      : kind_(kind), window_(window), options_(options) {}

  [[nodiscard]] const AttentionWindow& window() const { return window_; }

  [[nodiscard]] const AttentionOptions& options() const { return options_; }

  [[nodiscard]] const MixerKind& kind() const override { return kind_; }

  [[nodiscard]] bool Equals(const Mixer& other) const override;
  [[nodiscard]] std::optional<int32_t> SummaryWindow() const override;
  [[nodiscard]] bool SummariesAttend(const ModelConfig& config) const override;
  [[nodiscard]] std::optional<LayerSpec> Teacher() const override;
  [[nodiscard]] bool IsFullAttention() const override;
  void AddParameters(const ModelConfig& config, bool own, ParameterList& list) const override;
  [[nodiscard]] std::unique_ptr<BoundMixer> Bind(const ModelConfig& config,
                                                 const LayerParameters& parameters,
                                                 RopeTables& ropes) const override;
  [[nodiscard]] std::string TensorProblem(const ModelConfig& config, int32_t ranks) const override;
  [[nodiscard]] CacheSize CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const override;

 protected:
  // Of a layer with these parameters.
  [[nodiscard]] AttentionSetup SetupOf(const ModelConfig& config,
                                       const LayerParameters& parameters,
                                       RopeTables& ropes) const;

 private:
  const MixerKind& kind_;
  AttentionWindow window_;
  AttentionOptions options_;
};

// Neighbouring tensor ranks that share a key/value head, where there are fewer heads than ranks.
[[nodiscard]] int KeyReplicas(const ModelConfig& config, int tensor_ranks);

[[nodiscard]] LayerSpec MakeAttentionLayer(const MixerKind& kind,
                                           const AttentionWindow& window,
                                           const AttentionOptions& options);

// The same where the entry of the pattern decides of the options, and whether projections are of latents.
[[nodiscard]] LayerSpec MakeAttentionLayer(const MixerKind& kind,
                                           const AttentionWindow& window,
                                           const ModelConfig& config,
                                           const EntryValues& entry);

// What text sees in a layer of one of these kinds, and its options; an Error(kInternal) for any other.
[[nodiscard]] const AttentionWindow& WindowOf(const Mixer& mixer);
[[nodiscard]] const AttentionOptions& OptionsOf(const Mixer& mixer);

// Whether every option of a layer stands at its default; so of a layer that has none.
[[nodiscard]] bool HasDefaultOptions(const Mixer& mixer);

}  // namespace ksa
