// The rows of a rank's activations as what tensor ranks divide among themselves: text and summaries, each by itself, so
// that every rank has its even part of both.
#pragma once

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

}  // namespace ksa
