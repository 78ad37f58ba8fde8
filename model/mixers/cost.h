// What a layer keeps while decoding, in numbers that its kind knows; model/ksa/cost.h sums them over a model.
#pragma once

#include <cstdint>

namespace ksa {

// Of one layer.
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
