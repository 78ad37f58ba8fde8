#include "data/tasks/sample_random.h"

#include <unordered_set>
#include <utility>

#include "kernels/core/error.h"

namespace ksa {

int64_t SampleRandom::Below(int64_t n) {
  KSA_CHECK(1 <= n && n <= int64_t{1} << 31, "a random number of {}", n);
  const auto size = static_cast<uint64_t>(n);
  const uint64_t uneven = (uint64_t{1} << 32U) % size;  // low halves below it would come once too often
  uint64_t product = 0;
  do {
    product = uint64_t{Next()} * size;
  } while ((product & 0xFFFFFFFFU) < uneven);
  return static_cast<int64_t>(product >> 32U);
}

std::vector<int32_t> SampleRandom::Distinct(int64_t n, int64_t count) {
  KSA_CHECK(0 <= count && count <= n, "{} different numbers of {}", count, n);
  std::vector<int32_t> drawn;
  std::unordered_set<int64_t> seen;
  for (int64_t last = n - count; last < n; ++last) {  // Floyd: every set is as likely
    int64_t value = Below(last + 1);
    if (!seen.insert(value).second) {
      value = last;
      seen.insert(value);
    }
    drawn.push_back(static_cast<int32_t>(value));
  }
  Shuffle(drawn);
  return drawn;
}

void SampleRandom::Shuffle(std::vector<int32_t>& values) {
  for (size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[static_cast<size_t>(Below(static_cast<int64_t>(i)))]);
  }
}

}  // namespace ksa
