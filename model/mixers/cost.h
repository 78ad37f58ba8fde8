// What a layer costs, in numbers that its kind knows; model/ksa/cost.h sums them over a model.
#pragma once

#include <cstdint>

namespace ksa {

// Visible (query, key) pairs, summed over the sequences of a layout.
struct PairCount {
  int64_t text = 0;           // text query, text key
  int64_t summary = 0;        // text query, summary key
  int64_t summary_query = 0;  // query of a live summary, any key

  [[nodiscard]] int64_t OfTextQueries() const { return text + summary; }

  [[nodiscard]] int64_t Total() const { return text + summary + summary_query; }
};

// Forward, of the products of a row with weights, two operations a multiply-add, and of a visible pair. A row that is
// only seen by others pays for the key alone.
struct RowCost {
  int64_t key_flops = 0;    // of what others read of it
  int64_t query_flops = 0;  // of what it reads others with
  int64_t out_flops = 0;    // behind the mixing
  int64_t pair_flops = 0;   // of a visible pair
  // Of what text rows alone go through, and of what those of chunks that are pooled do (Mixer::CountPooledRows).
  int64_t text_flops = 0;
  int64_t pooled_flops = 0;
  // Elements of keys and of queries that are normed and rotated row by row.
  int64_t key_columns = 0;
  int64_t query_columns = 0;

  [[nodiscard]] int64_t RowFlops() const { return key_flops + query_flops + out_flops; }
};

// What a layer keeps while decoding.
struct CacheSize {
  int64_t entries = 0;  // rows of the past that it can still look at, or as many as its state stands for
  int64_t bytes = 0;

  CacheSize& operator+=(const CacheSize& other) {
    entries += other.entries;
    bytes += other.bytes;
    return *this;
  }
};

}  // namespace ksa
