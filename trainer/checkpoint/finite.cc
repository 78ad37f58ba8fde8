#include "trainer/checkpoint/finite.h"

#include <algorithm>
#include <bit>

namespace ksa {
namespace {

// Numbers are looked at as bits, a block at a time, which compilers turn into vector instructions.
template <typename T, typename Bits>
int64_t FirstWithExponent(const TensorView& values, Bits exponent) {
  constexpr int64_t kBlock = 4096;
  const T* const data = values.As<T>();
  const auto finite = [&](int64_t i) { return (std::bit_cast<Bits>(data[i]) & exponent) != exponent; };
  for (int64_t begin = 0; begin < values.size(); begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, values.size());
    Bits bad = 0;
    for (int64_t i = begin; i < end; ++i) {
      bad |= finite(i) ? Bits{0} : Bits{1};
    }
    for (int64_t i = begin; bad != 0 && i < end; ++i) {
      if (!finite(i)) {
        return i;
      }
    }
  }
  return -1;
}

}  // namespace

int64_t FirstNotFinite(const TensorView& values) {
  return values.dtype == DType::kF64 ? FirstWithExponent<double>(values, uint64_t{0x7ff0000000000000})
                                     : FirstWithExponent<float>(values, uint32_t{0x7f800000});
}

}  // namespace ksa
