// Which samples of a source stand for the whole of it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ksa {

// `taken` of `there` samples, 0 < taken <= there, spread evenly: their distances differ by at most one, and the same
// two numbers always give the same samples.
struct EvenSamples {
  int64_t taken = 0;
  int64_t there = 0;

  // The place in the source of sample j, 0 <= j < taken: floor(j · there / taken).
  [[nodiscard]] int64_t At(int64_t j) const {
    __extension__ using Wide = __int128;
    return static_cast<int64_t>(Wide{j} * there / taken);
  }
};

// At most `wanted` of `there` samples.
[[nodiscard]] inline EvenSamples TakeEvenly(int64_t wanted, int64_t there) {
  return {std::min(wanted, there), there};
}

}  // namespace ksa
