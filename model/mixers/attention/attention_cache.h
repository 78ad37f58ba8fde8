// What layers of softmax attention keep: keys and values of a ring of text, and of what stands for chunks.
#pragma once

#include <array>
#include <cstdint>

#include "model/mixers/decode.h"
#include "model/mixers/kept_taps.h"
#include "model/mixers/mixer.h"

namespace ksa {

// The rows of one matrix that are kept: [slots · KeptRows::rows(), columns].
class RowStore {
 public:
  RowStore() = default;

  RowStore(const ExecContext& cx, const CacheSpec& spec, const KeptRows& kept, int64_t columns)
      : kept_(kept), rows_(cx.Empty({int64_t{1} * spec.slots * kept.rows(), columns}, spec.dtype)) {}

  [[nodiscard]] const Tensor& rows() const { return rows_; }

  // Those of a call: text first, behind it entries of whole chunks, if the layer keeps any.
  void Keep(const ExecContext& cx, const Tensor& rows, const MixerCall& call);

 private:
  void KeepSequence(const ExecContext& cx, const Tensor& rows, int32_t slot, int32_t tokens);

  KeptRows kept_;
  Tensor rows_;
};

class AttentionCache : public LayerCache {
 public:
  // Of heads of keys and values with these columns together; `entries`: of a chunk.
  AttentionCache(const ExecContext& cx,
                 const CacheSpec& spec,
                 const AttentionWindow& window,
                 int32_t entries,
                 int64_t key_columns,
                 int64_t value_columns);

  [[nodiscard]] int64_t bytes() const override;

  // k and v of a call, as RowStore::Keep.
  void Keep(const ExecContext& cx, const Var& k, const Var& v, const MixerCall& call);

  // q [n, h·e], the first rows of a step, attend to what is kept and, summaries, to the step's own k and v.
  [[nodiscard]] Var Attend(
      const ExecContext& cx, const Var& q, const Var& k, const Var& v, const MixerCall& call, int head_dim) const;

  [[nodiscard]] const KeptRows& kept() const { return kept_; }

  [[nodiscard]] const Tensor& values() const { return v_.rows(); }

  std::array<KeptTaps, 3> taps;  // of q, k and v

 private:
  KeptRows kept_;
  RowStore k_;
  RowStore v_;
};

}  // namespace ksa
