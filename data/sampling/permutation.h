// A keyed permutation of 0 … n-1 that is computed, not stored.
#pragma once

#include <cstdint>

namespace ksa {

// A balanced Feistel network of six rounds over the smallest domain 4^h >= n (h bits a half, at least 1), walked along
// its cycle until the value is below n. In round r (from 0) the halves (left, right) become
// (right, left XOR Low_h(Philox4x32(key, counter = right, stream = r))), where Low_h takes the h low bits of the 64-bit
// number whose low and high words are the first two of Philox's output. The domain is less than 4n, so that the walk
// takes fewer than four steps on average.
//
// Throws Error(kInternal) unless 0 <= x < n <= 2^62.
[[nodiscard]] int64_t Permute(uint64_t key, int64_t n, int64_t x);

}  // namespace ksa
