// What decoding has of a layer: rows of the past that are kept, and the rows of a step. docs/design/decode.md.
//
// A sequence has a slot. Its text is kept in a ring of as many rows as a layer's text sees; what stands for chunks that
// ended (summaries, entries) lies behind the ring and stays.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
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
  int32_t id = 0;
};

// int32 numbers where `cx` computes.
[[nodiscard]] Tensor UploadNumbers(const ExecContext& cx, const std::vector<int32_t>& numbers, const Shape& shape);

// The next tokens of n sequences, and what follows from them on the host.
struct StepTokens {
  // `rule`: positions, chunk size and summary tokens of the model's layouts.
  StepTokens(std::vector<DecodeToken> next, const SummaryLayout& rule);

  std::vector<DecodeToken> tokens;
  std::vector<int32_t> ended;  // those of the tokens, by number, with which a chunk ends
  SummaryLayout rule;          // of one sequence, whose length is that of whichever token is asked about
  // No sequence is longer. A step of as many tokens and ended chunks and of this length runs the same operations on
  // tensors of the same shapes; only numbers of DecodeStep::Numbers differ.
  int32_t most_tokens = 0;

  [[nodiscard]] int32_t ChunkOf(int32_t token) const {
    return tokens[static_cast<size_t>(token)].position / rule.chunk_size;
  }

  // The layout of the sequence of a token that ends with it.
  [[nodiscard]] SummaryLayout UpTo(int32_t token) const;

  // Of the text rows and the summary rows behind them.
  [[nodiscard]] std::vector<int32_t> Positions() const;

  // [rows, kKeySpans, 2] of CachedAttention, and at least as many keys as any of them has.
  [[nodiscard]] std::vector<int32_t> SpansIn(const KeptRows& kept) const;
  [[nodiscard]] int64_t MostKeys(const KeptRows& kept) const;
};

// Numbers that operations of a step read where the model computes; they depend on the step's tokens, their count on
// that of tokens and ended chunks alone.
using MakeNumbers = std::function<std::vector<int32_t>(const StepTokens&)>;

// All numbers of a step, remembered by how they are made, so that a later step of the same operations finds its own at
// the same addresses.
class StepNumbers {
 public:
  // The next list: what it holds for `tokens`, or once they are fixed, its place.
  [[nodiscard]] Tensor Next(const ExecContext& cx, const StepTokens& tokens, const MakeNumbers& make);

  // Takes memory of `cx` for as many as were asked for so far. From now on the same are asked for, in the same order.
  void Fix(const ExecContext& cx);

  // The next one is the first again.
  void Restart() { next_ = 0; }

  [[nodiscard]] int64_t total() const { return total_; }

  // All lists for `tokens`, as they lie in memory; to [total()].
  void Make(const StepTokens& tokens, int32_t* to) const;

  [[nodiscard]] const Tensor& memory() const { return memory_; }

 private:
  struct List {
    MakeNumbers make;
    int64_t begin = 0;
    int64_t count = 0;
  };

  std::vector<List> lists_;
  size_t next_ = 0;
  int64_t total_ = 0;
  Tensor memory_;  // empty: not fixed
};

// The rows of one step: n text rows, the next token of n sequences, and behind them m summary rows for each chunk that
// ends with one of these tokens. What layers ask of it is made once.
class DecodeStep {
 public:
  // `numbers`: where its numbers come from; null: each list is uploaded when it is asked for.
  DecodeStep(const ExecContext& cx, StepTokens tokens, StepNumbers* numbers = nullptr);

  [[nodiscard]] int64_t ended() const { return static_cast<int64_t>(tokens_.ended.size()); }

  [[nodiscard]] int64_t text_rows() const { return static_cast<int64_t>(tokens_.tokens.size()); }

  [[nodiscard]] int64_t rows() const { return text_rows() + ended() * tokens_.rule.summary_tokens; }

  [[nodiscard]] int32_t chunk_size() const { return tokens_.rule.chunk_size; }

  // A list of numbers of this step.
  [[nodiscard]] Tensor Numbers(const MakeNumbers& make);

  // The tokens' ids [n].
  [[nodiscard]] Tensor Ids();

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
    Tensor text;            // [n]: rows that the text's keys are kept in
    Tensor entries;         // [ended · entries] likewise; empty: nothing is kept
    Tensor spans;           // [rows, kKeySpans, 2] of CachedAttention, where rows of the step are its new rows
    int64_t most_keys = 0;  // of any step of this kind
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
  ExecContext cx_;
  StepTokens tokens_;
  StepNumbers* numbers_;
  Tensor position_rows_;
  Tensor slots_;
  std::map<const void*, Tensor> ropes_;
  std::deque<std::pair<KeptRows, Places>> places_;  // whose elements stay where they are
  std::map<int32_t, TapRows> taps_;
};

}  // namespace ksa
