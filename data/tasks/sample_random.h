// The random numbers of one sample: Philox counted from 0 under the source's key and the sample's number, so that any
// sample is made alone.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/core/philox.h"

namespace ksa {

class SampleRandom {
 public:
  SampleRandom(uint64_t key, int64_t sample) : key_(key), sample_(static_cast<uint64_t>(sample)) {}

  uint32_t Next() {
    if (at_ == words_.size()) {
      words_ = Philox4x32(key_, counter_++, sample_);
      at_ = 0;
    }
    return words_.at(at_++);
  }

  // Evenly of [0, n), 1 <= n <= 2^31: of a 64-bit product the upper half, drawn again where that were uneven (Lemire).
  int64_t Below(int64_t n);

  // In (0, 1).
  double Open() { return (static_cast<double>(Next()) + 0.5) * 0x1p-32; }

  // `count` different numbers of [0, n), in an order as random as they are.
  std::vector<int32_t> Distinct(int64_t n, int64_t count);

  void Shuffle(std::vector<int32_t>& values);

 private:
  uint64_t key_;
  uint64_t sample_;
  uint64_t counter_ = 0;
  std::array<uint32_t, 4> words_{};
  size_t at_ = 4;
};

}  // namespace ksa
