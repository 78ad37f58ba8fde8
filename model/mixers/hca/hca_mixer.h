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

// `layout` with a summary row for each chunk that has an entry: the whole chunks that some text sees, or while decoding
// all of them, for text that comes will see them.
[[nodiscard]] SummaryLayout WithEntries(const SummaryLayout& layout,
                                        const AttentionWindow& window,
                                        SummaryPositions positions,
                                        bool all_whole = false);

class BoundHca final : public BoundAttention {
 public:
  BoundHca(const AttentionSetup& attention, const CompressorWeights& compressor, SummaryPositions positions)
      : BoundAttention(attention), compressor_(compressor), positions_(positions) {}

  [[nodiscard]] AttentionRows RowsOf(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;

  [[nodiscard]] Var Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const override;
  [[nodiscard]] std::unique_ptr<LayerCache> MakeCache(const ExecContext& cx, const CacheSpec& spec) const override;

  // What attention reads: q, and k and v of text rows and of entries behind them.
  struct Rows {
    Var q;
    Var k;
    Var v;
  };

  [[nodiscard]] Rows MakeRows(const ExecContext& cx, const Var& normed, const MixerCall& call) const;

 private:
  // What entries are pooled from, of text rows: keys, values, and the gates of both or of each.
  struct Pooled {
    std::array<Var, 2> x;
    std::array<Var, 2> gate;
  };

  // Entries with the positions of `layout`'s summary rows, which stand there in `table`.
  struct EntryPositions {
    SummaryLayout layout;
    int64_t first_row = 0;
    TensorView table;
  };

  [[nodiscard]] std::vector<ProductSpec> Products(int64_t rows) const;
  [[nodiscard]] Pooled PooledOf(const Projected& text) const;
  // -> normed, rotated keys and values of the entries of `layout`.
  [[nodiscard]] std::array<Var, 2> MakeEntries(const ExecContext& cx,
                                               const Pooled& from,
                                               const SummaryLayout& layout,
                                               EntryPositions positions) const;
  [[nodiscard]] Var NormEntries(const ExecContext& cx,
                                const Var& entries,
                                Parameter* weight,
                                const EntryPositions& positions,
                                bool rotates) const;
  [[nodiscard]] Rows StepRows(const ExecContext& cx, const Var& normed, const MixerCall& call) const;

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
