// What decoding has of a layer: rows of the past that are kept, and the rows of a step. docs/design/decode.md.
//
// A sequence has a slot. Its text is kept in a ring of as many rows as a layer's text sees; what stands for chunks that
// ended (summaries, entries) lies behind the ring and stays.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"
#include "model/autograd/context.h"

namespace ksa {

// What a layer's cache is made for.
struct CacheSpec {
  int32_t slots = 1;
  int32_t tokens = 0;             // of a sequence, at most
  int32_t chunk_size = 1;         // k
  int32_t summary_tokens = 0;     // m of the model's summary rows; 0: there are none
  bool summaries_attend = false;  // whether these run through the layer
  DType dtype = DType::kF32;
};

// What one layer keeps. The buffers of all slots; what lies in them is known to the layer alone.
class LayerCache {
 public:
  LayerCache() = default;
  LayerCache(const LayerCache&) = delete;
  LayerCache& operator=(const LayerCache&) = delete;
  virtual ~LayerCache() = default;

  [[nodiscard]] virtual int64_t bytes() const = 0;  // of its buffers
};

// The rows that a layer of softmax attention keeps, as arithmetic: of each slot `ring` rows of text, and `behind` rows
// of what stands for chunks, of which a chunk has `entries`.
struct KeptRows {
  int32_t ring = 1;
  int32_t behind = 0;
  int32_t entries = 0;  // 0: nothing stands for chunks in this layer
  AttentionWindow window;

  // `entries` of each chunk are kept where text sees them.
  [[nodiscard]] static KeptRows Of(const CacheSpec& spec, const AttentionWindow& window, int32_t entries);

  [[nodiscard]] int32_t rows() const { return ring + behind; }

  // The row of token i, while it is kept, and that of entry `entry` of chunk `chunk`.
  [[nodiscard]] int32_t TextRow(int32_t slot, int32_t i) const { return slot * rows() + i % ring; }

  [[nodiscard]] int32_t EntryRow(int32_t slot, int32_t chunk, int32_t entry) const {
    return slot * rows() + ring + chunk * entries + entry;
  }

  friend bool operator==(const KeptRows&, const KeptRows&) = default;
};

// Rows of text that a layer of this window keeps of a sequence of `tokens`. Summaries that run through the layer see
// all text of their chunk, whatever its text sees.
[[nodiscard]] int64_t RingRows(const AttentionWindow& window,
                               int64_t tokens,
                               int64_t chunk_size,
                               bool summaries_attend);

struct DecodeToken {
  int32_t slot = 0;
  int32_t position = 0;  // token i of its sequence, from 0
};

// int32 numbers where `cx` computes.
[[nodiscard]] Tensor UploadNumbers(const ExecContext& cx, const std::vector<int32_t>& numbers, const Shape& shape);

// The rows of one step: n text rows, the next token of n sequences, and behind them m summary rows for each chunk that
// ends with one of these tokens. What layers ask of it is made once.
class DecodeStep {
 public:
  // `rule`: positions, chunk size and summary tokens of the model's layouts.
  DecodeStep(const ExecContext& cx, std::vector<DecodeToken> tokens, const SummaryLayout& rule);

  [[nodiscard]] const std::vector<DecodeToken>& tokens() const { return tokens_; }

  // Those of the tokens, by number, with which a chunk ends.
  [[nodiscard]] const std::vector<int32_t>& ended() const { return ended_; }

  [[nodiscard]] int64_t text_rows() const { return static_cast<int64_t>(tokens_.size()); }

  [[nodiscard]] int64_t rows() const { return static_cast<int64_t>(positions_.size()); }

  [[nodiscard]] int32_t chunk_size() const { return rule_.chunk_size; }

  [[nodiscard]] int32_t ChunkOf(int32_t token) const {
    return tokens_[static_cast<size_t>(token)].position / rule_.chunk_size;
  }

  // The rows as a layout: which are text and which of a chunk's summaries the others are. Positions are not its.
  [[nodiscard]] SummaryLayout Layout() const;

  // The text rows as sequences of one token each, of which whole ones began long before: what is read of that comes
  // beside them.
  [[nodiscard]] SummaryLayout OneTokenEach() const;

  // The slots of the text rows [n], where the model computes.
  [[nodiscard]] const Tensor& Slots();

  // For operations that take positions from a layout: row r stands at "position" r, and the table has there what it
  // has at the row's true one.
  [[nodiscard]] static SummaryLayout Numbered(int64_t rows);
  [[nodiscard]] TensorView RopeRows(const TensorView& table);

  // Entries of the chunks that ended, one each, by their position (hca).
  [[nodiscard]] Tensor EntryRopeRows(const TensorView& table, SummaryPositions positions);

  // Where a layer's rows go, and what its queries see.
  struct Places {
    Tensor text;     // [n]: rows that the text's keys are kept in
    Tensor entries;  // [ended · entries] likewise; empty: nothing is kept
    Tensor spans;    // [rows, kKeySpans, 2] of CachedAttention, where rows of the step are its new rows
    int64_t most_keys = 0;
  };

  [[nodiscard]] const Places& PlacesIn(const KeptRows& kept);

  // Of a convolution that keeps its last `reach` rows a slot, in a ring: where those before each token are, nearest
  // last, [n · reach], and where the token's own goes, [n].
  struct TapRows {
    Tensor before;
    Tensor own;
  };

  [[nodiscard]] const TapRows& TapRowsOf(int32_t reach);

 private:
  [[nodiscard]] std::vector<int32_t> SpansIn(const KeptRows& kept, int64_t& most_keys) const;

  ExecContext cx_;
  std::vector<DecodeToken> tokens_;
  std::vector<int32_t> ended_;
  SummaryLayout rule_;
  std::vector<int32_t> positions_;  // of all rows
  Tensor position_rows_;            // the same, where the model computes
  Tensor slots_;
  std::map<const void*, Tensor> ropes_;
  std::deque<std::pair<KeptRows, Places>> places_;  // whose elements stay where they are
  std::map<int32_t, TapRows> taps_;
};

}  // namespace ksa
