// A layer of hca: an attention layer, and the compressor that makes entries of chunks. To attention, entries are what
// live summaries are in KSA with one summary a chunk: keys and values behind those of the text.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/hca/hca.h"

namespace ksa {

// With tensor ranks each has the channels of its own heads.
struct CompressorWeights {
  Parameter* k = nullptr;               // [g·e, d]; null: the text's own keys and values are pooled
  Parameter* v = nullptr;               // [g·e, d]
  std::array<Parameter*, 2> gate = {};  // [g·e, d]; of both, or of keys and of values
  std::array<Parameter*, 2> bias = {};  // [k, g·e]
  std::array<Parameter*, 2> norm = {};  // [e] of pooled keys, of pooled values; null: none
};

// `layout` with a summary row for each chunk that has an entry: the whole chunks that some text sees.
[[nodiscard]] SummaryLayout WithEntries(const SummaryLayout& layout,
                                        const AttentionWindow& window,
                                        SummaryPositions positions);

class BoundHca final : public BoundAttention {
 public:
  BoundHca(const AttentionSetup& attention, const CompressorWeights& compressor, SummaryPositions positions)
      : BoundAttention(attention), compressor_(compressor), positions_(positions) {}

  [[nodiscard]] Var Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;

  // What attention reads: q, and k and v of text rows and of entries behind them.
  struct Rows {
    Var q;
    Var k;
    Var v;
  };

  [[nodiscard]] Rows MakeRows(const ExecContext& cx, const Var& normed, const MixerCall& call) const;

 private:
  [[nodiscard]] Var NormEntries(
      const ExecContext& cx, const Var& entries, Parameter* weight, SummaryLayout layout, bool rotates) const;

  CompressorWeights compressor_;
  SummaryPositions positions_;
};

class HcaMixer final : public AttentionMixer {
 public:
  using AttentionMixer::AttentionMixer;

  [[nodiscard]] std::optional<int32_t> SummaryWindow() const override { return std::nullopt; }  // no summary rows

  [[nodiscard]] bool SummariesAttend(const ModelConfig& /*config*/) const override { return false; }

  void AddParameters(const ModelConfig& config, bool own, ParameterList& list) const override;
  [[nodiscard]] std::unique_ptr<BoundMixer> Bind(const ModelConfig& config,
                                                 const LayerParameters& parameters,
                                                 RopeTables& ropes) const override;
  [[nodiscard]] CacheSize CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const override;
};

}  // namespace ksa
