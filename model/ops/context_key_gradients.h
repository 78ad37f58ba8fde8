// Gradients of keys that other ranks' text has seen, on their way back to the owners. Internal to context attention.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "kernels/copy/row_parts.h"
#include "model/ops/context_key_rows.h"
#include "model/ops/context_text.h"

namespace ksa {

class KeyGradients {
 public:
  // `calls`: what each call of `rows` left for its keys. `rows` must outlive this.
  KeyGradients(const KeyRows& rows, std::vector<KeyPair> calls) : rows_(rows), calls_(std::move(calls)) {}

  // What belongs to other ranks begins to travel.
  void Start(const ExecContext& cx);

  // Waits, and sums for every own row, in this order: own summary queries, own calls, peers by rank. In the
  // accumulation type, rounded once. Shaped like `keys`.
  [[nodiscard]] KeyPair Finish(const ExecContext& cx, const KeyPair& keys, const KeyPair& summaries);

 private:
  // Gradients of own chunks that a peer returned.
  struct Returned {
    int32_t sequence = 0;
    Range chunks;
    KeyPair rows;
  };

  using Which = Tensor KeyPair::*;

  [[nodiscard]] std::vector<RowPart> TextParts(int32_t sequence, const Range& chunks, Which which) const;
  [[nodiscard]] std::vector<RowPart> SummaryParts(int32_t sequence, Which which) const;
  [[nodiscard]] TensorView SumOf(const ExecContext& cx, const std::vector<RowPart>& parts, int64_t rows);
  void SumSummaries(const ExecContext& cx);
  void AppendSends(const ExecContext& cx, std::vector<Message>& messages);
  void AppendReceives(const ExecContext& cx,
                      const std::vector<ChunkPiece>& pieces,
                      bool summaries,
                      std::vector<Returned>& returned,
                      std::vector<Message>& messages) const;
  void FinishText(const ExecContext& cx, const TensorView& own, Which which, const TensorView& y) const;
  void FinishSummaries(const ExecContext& cx, const TensorView& own, Which which, const TensorView& y) const;

  const KeyRows& rows_;
  std::vector<KeyPair> calls_;
  std::vector<Tensor> held_;             // sums that travel
  std::vector<TensorView> summaries_k_;  // [live summaries, g·e] a sequence: what own text left for them
  std::vector<TensorView> summaries_v_;
  std::vector<Returned> returned_text_;
  std::vector<Returned> returned_summaries_;
  std::optional<PendingCalls> travelling_;  // goes first
};

}  // namespace ksa
