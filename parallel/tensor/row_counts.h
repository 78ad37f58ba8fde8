// The rows of a rank's activations as what tensor ranks divide among themselves: text and summaries, each by itself, so
// that every rank has its even part of both.
#pragma once

#include <array>
#include <cstdint>

#include "parallel/mesh/process_mesh.h"

namespace ksa {

// Rows of a matrix: text first, then summaries.
struct RowCounts {
  int64_t text = 0;
  int64_t summaries = 0;

  [[nodiscard]] int64_t total() const { return text + summaries; }

  // What part `part` of `parts` has; its rows are its text, then its summaries.
  [[nodiscard]] RowCounts Part(int parts, int part) const {
    return {EvenPart(text, parts, part).size(), EvenPart(summaries, parts, part).size()};
  }

  friend bool operator==(const RowCounts&, const RowCounts&) = default;
};

// Rows [begin, end).
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;

  [[nodiscard]] int64_t size() const { return end > begin ? end - begin : 0; }
};

// The rows of a whole matrix in the order in which a rank can work while rows travel: its own text, which is most of
// what it has and one run, and all others, which are two.
struct RowOrder {
  RowRange own;
  std::array<RowRange, 2> others;

  RowOrder(const RowCounts& rows, int parts, int part) {
    const EvenPart text(rows.text, parts, part);
    own = {text.begin, text.end};
    others = {RowRange{0, text.begin}, RowRange{text.end, rows.total()}};
  }
};

}  // namespace ksa
