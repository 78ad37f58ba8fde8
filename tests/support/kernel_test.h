// What tests of kernels share: guarded memory, filled tensors, comparisons, central differences.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/allocator.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/philox.h"
#include "kernels/core/tensor.h"

namespace ksa::testing {

inline constexpr std::array<DType, 3> kFloatingTypes = {DType::kF64, DType::kF32, DType::kBF16};

// Unit roundoff: the largest relative error of one rounding to nearest.
[[nodiscard]] inline double UnitRoundoff(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 0x1p-53;
    case DType::kF32:
      return 0x1p-24;
    case DType::kBF16:
      return 0x1p-8;
    case DType::kI32:
      break;
  }
  return 0.0;
}

// Puts sentinels around every block and looks at them when it is freed: a write outside fails the test. Blocks start
// as all-ones bytes, which is NaN in every floating type: reading what nobody wrote shows in the results.
class GuardAllocator : public Allocator {
 public:
  [[nodiscard]] Device device() const override { return {}; }

  [[nodiscard]] void* Allocate(int64_t bytes) override {
    const size_t whole = (static_cast<size_t>(bytes) + 3 * kGuard - 1) / kGuard * kGuard;
    auto* block = static_cast<unsigned char*>(std::aligned_alloc(kGuard, whole + kGuard));
    std::memset(block, kSentinel, whole + kGuard);
    std::memset(block + kGuard, 0xff, static_cast<size_t>(bytes));
    return block + kGuard;
  }

  void Free(void* data, int64_t bytes) noexcept override {
    unsigned char* block = static_cast<unsigned char*>(data) - kGuard;
    for (size_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(block[i], kSentinel) << "byte " << i << " before a block of " << bytes << " was overwritten";
      EXPECT_EQ(block[kGuard + static_cast<size_t>(bytes) + i], kSentinel)
          << "byte " << i << " behind a block of " << bytes << " was overwritten";
    }
    std::free(block);
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr unsigned char kSentinel = 0xa5;
};

[[nodiscard]] inline double ElementAt(const TensorView& x, int64_t i) {
  double value = 0.0;
  DispatchFloating(x.dtype, [&](auto element) {
    using T = decltype(element);
    value = static_cast<double>(static_cast<Accumulator<T>>(x.As<T>()[i]));
  });
  return value;
}

inline void SetElement(const TensorView& x, int64_t i, double value) {
  DispatchFloating(x.dtype, [&](auto element) {
    using T = decltype(element);
    x.As<T>()[i] = static_cast<T>(static_cast<Accumulator<T>>(value));
  });
}

[[nodiscard]] inline std::vector<double> ToDouble(const TensorView& x) {
  std::vector<double> values(static_cast<size_t>(x.size()));
  for (int64_t i = 0; i < x.size(); ++i) {
    values[static_cast<size_t>(i)] = ElementAt(x, i);
  }
  return values;
}

// Standard normal numbers, rounded to the type; another `name` gives other numbers.
[[nodiscard]] inline Tensor Normal(std::string_view name, const Shape& shape, DType dtype, Allocator& allocator) {
  Tensor x = Tensor::Empty(shape, dtype, allocator);
  const uint64_t key = NamedKey(20240917, name);
  for (int64_t i = 0; i < x.size(); ++i) {
    SetElement(x, i, NormalAt(key, static_cast<uint64_t>(i)));
  }
  return x;
}

// The same values in memory of their own.
[[nodiscard]] inline Tensor Clone(const TensorView& x, Allocator& allocator) {
  Tensor copy = Tensor::Empty(x.shape, x.dtype, allocator);
  std::memcpy(copy.view().data, x.data, static_cast<size_t>(x.bytes()));
  return copy;
}

// Whole numbers in [low, high), int32.
[[nodiscard]] inline Tensor Integers(
    std::string_view name, const Shape& shape, int32_t low, int32_t high, Allocator& allocator) {
  Tensor x = Tensor::Empty(shape, DType::kI32, allocator);
  const uint64_t key = NamedKey(20240917, name);
  for (int64_t i = 0; i < x.size(); ++i) {
    const uint32_t bits = Philox4x32(key, static_cast<uint64_t>(i))[0];
    x.As<int32_t>()[i] = low + static_cast<int32_t>(bits % static_cast<uint32_t>(high - low));
  }
  return x;
}

inline void ExpectSameBits(const TensorView& a, const TensorView& b, std::string_view what) {
  ASSERT_FALSE(a.empty() || b.empty()) << what << " is not there";
  ASSERT_EQ(a.bytes(), b.bytes()) << what;
  EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())), 0) << what << " differs in bits";
}

// Largest difference, divided by the largest magnitude expected; NaN or another size gives infinity.
[[nodiscard]] inline double RelativeDifference(const std::vector<double>& actual, const std::vector<double>& expected) {
  double largest = 0.0;
  double difference = actual.size() == expected.size() ? 0.0 : HUGE_VAL;
  for (size_t i = 0; i < expected.size() && i < actual.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    const double d = std::abs(actual[i] - expected[i]);
    difference = d <= difference ? difference : (std::isnan(d) ? HUGE_VAL : d);
  }
  return difference == 0.0 ? 0.0 : difference / largest;
}

// d f / d x by central differences, x in fp64.
[[nodiscard]] inline std::vector<double> CentralDifferences(const TensorView& x, const std::function<double()>& f) {
  constexpr double kStep = 1e-5;
  std::vector<double> gradient(static_cast<size_t>(x.size()));
  for (int64_t i = 0; i < x.size(); ++i) {
    const double value = x.As<double>()[i];
    x.As<double>()[i] = value + kStep;
    const double above = f();
    x.As<double>()[i] = value - kStep;
    const double below = f();
    x.As<double>()[i] = value;
    gradient[static_cast<size_t>(i)] = (above - below) / (2.0 * kStep);
  }
  return gradient;
}

// With values and derivatives of order 1, the step of 1e-5 leaves 1e-10 of truncation and 1e-11 of rounding; sums of a
// hundred terms before the difference cost two digits more.
inline constexpr double kCentralDifferenceTolerance = 1e-8;

// sum of a[i] · b[i]: turns a tensor into a number to differentiate.
[[nodiscard]] inline double Dot(const TensorView& a, const TensorView& b) {
  double sum = 0.0;
  for (int64_t i = 0; i < a.size(); ++i) {
    sum += ElementAt(a, i) * ElementAt(b, i);
  }
  return sum;
}

// run(stream) returns the tensors it wrote; they must be the same in bits with 1, 2 and 3 threads.
inline void ExpectSameForAllThreadCounts(const std::function<std::vector<Tensor>(const Stream&)>& run) {
  const std::vector<Tensor> one = run({.device = {}, .threads = 1});
  for (const int threads : {2, 3}) {
    const std::vector<Tensor> many = run({.device = {}, .threads = threads});
    ASSERT_EQ(one.size(), many.size());
    for (size_t i = 0; i < one.size(); ++i) {
      ExpectSameBits(one[i], many[i], "an output with more threads");
    }
  }
}

}  // namespace ksa::testing
