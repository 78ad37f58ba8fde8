// What a layer of hca keeps beside the text of its window and its entries: of the chunk that is not whole yet, the rows
// that its entry will be pooled from.
#pragma once

#include <array>

#include "model/mixers/attention/attention_cache.h"

namespace ksa {

class HcaCache final : public AttentionCache {
 public:
  // Gates of keys (or both) and of values, and what they pool: keys, values. Those that a layer does not have are
  // empty.
  using Open = std::array<Var, 4>;

  // `keeps`: which of them are kept. Values that are not are the text's own, which the ring has.
  HcaCache(const ExecContext& cx,
           const CacheSpec& spec,
           const AttentionWindow& window,
           int64_t columns,
           const std::array<bool, 4>& keeps);

  [[nodiscard]] int64_t bytes() const override;

  // Of text rows [n, columns] of a call what a later step needs: those of chunks that are not whole.
  void KeepOpen(const ExecContext& cx, const Open& rows, const MixerCall& call);

  // All rows of the chunks that a step ends, [ended · k, columns] each.
  [[nodiscard]] Open WholeChunks(const ExecContext& cx, const Open& rows, const MixerCall& call) const;

 private:
  static constexpr size_t kValues = 3;

  void MoveOpen(const Open& rows, const Tensor& from, const Tensor& to, const Stream& stream);

  int32_t open_ = 0;  // rows of a slot
  std::array<Tensor, 4> rows_;
};

}  // namespace ksa
