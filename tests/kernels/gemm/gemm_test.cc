#include "kernels/gemm/gemm.h"

#include <array>
#include <cmath>
#include <thread>

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <omp.h>

#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::Bounded;
using testing::BoundedValues;
using testing::GuardAllocator;

struct Case {
  int64_t m;
  int64_t n;
  int64_t k;
};

// op(a) · op(b) by three loops.
BoundedValues Reference(const GemmArgs& args, const BoundedValues& before, const Case& size) {
  const BoundedValues a = testing::Exact(args.a);
  const BoundedValues b = testing::Exact(args.b);
  BoundedValues c;
  for (int64_t i = 0; i < size.m; ++i) {
    for (int64_t j = 0; j < size.n; ++j) {
      testing::Sum sum;
      for (int64_t l = 0; l < size.k; ++l) {
        const auto at = static_cast<size_t>(args.transpose_a ? l * size.m + i : i * size.k + l);
        const auto bt = static_cast<size_t>(args.transpose_b ? j * size.k + l : l * size.n + j);
        sum.Add(a[at] * b[bt]);
      }
      Bounded value = Bounded(args.alpha) * sum.Result();
      if (args.beta != 0.0) {
        value = value + Bounded(args.beta) * before[static_cast<size_t>(i * size.n + j)];
      }
      c.push_back(value);
    }
  }
  return c;
}

void Check(const Case& size, DType dtype, DType c_dtype, bool transpose_a, bool transpose_b, double beta) {
  SCOPED_TRACE(fmt::format("m {} n {} k {} {} -> {}, transposed {} {}, beta {}",
                           size.m,
                           size.n,
                           size.k,
                           NameOf(dtype),
                           NameOf(c_dtype),
                           transpose_a,
                           transpose_b,
                           beta));
  GuardAllocator memory;
  const Shape a_shape = transpose_a ? Shape{size.k, size.m} : Shape{size.m, size.k};
  const Shape b_shape = transpose_b ? Shape{size.n, size.k} : Shape{size.k, size.n};
  const Tensor a = testing::Normal("a", a_shape, dtype, memory);
  const Tensor b = testing::Normal("b", b_shape, dtype, memory);
  const Shape c_shape = {size.m, size.n};
  // With beta 0 the old contents are NaN and must not be read.
  const Tensor c =
      beta == 0.0 ? Tensor::Empty(c_shape, c_dtype, memory) : testing::Normal("c", c_shape, c_dtype, memory);
  const BoundedValues before = testing::Exact(c);
  const GemmArgs args = {
      .a = a, .b = b, .c = c, .transpose_a = transpose_a, .transpose_b = transpose_b, .alpha = 0.75, .beta = beta};
  Gemm(args, {.device = {}, .threads = 2});
  testing::ExpectWithinBound(c, Reference(args, before, size), "c");
}

TEST(Gemm, MatchesThreeLoops) {
  constexpr std::array<Case, 9> kCases = {{{1, 1, 1},
                                           {3, 7, 1},
                                           {1, 113, 7},
                                           {113, 1, 3},
                                           {2, 64, 64},
                                           {7, 3, 113},
                                           {33, 65, 31},
                                           {113, 37, 113},
                                           {3, 4, 1023}}};
  for (const Case& size : kCases) {
    for (const DType dtype : testing::kFloatingTypes) {
      for (const DType c_dtype : {dtype, AccumulationType(dtype)}) {
        for (const int flags : {0, 1, 2, 3}) {
          for (const double beta : {0.0, 1.0, -0.5}) {
            Check(size, dtype, c_dtype, (flags & 1) != 0, (flags & 2) != 0, beta);
          }
        }
      }
    }
  }
}

TEST(Gemm, OverNothingLeavesBetaTimesC) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    const Tensor a = Tensor::Empty({3, 0}, dtype, memory);
    const Tensor b = Tensor::Empty({0, 5}, dtype, memory);
    const Tensor c = Tensor::Empty({3, 5}, dtype, memory);
    Gemm({.a = a, .b = b, .c = c}, {});
    for (const double value : testing::ToDouble(c)) {
      EXPECT_EQ(value, 0.0);
    }
    const Tensor d = testing::Normal("d", {3, 5}, dtype, memory);
    const std::vector<double> before = testing::ToDouble(d);
    Gemm({.a = a, .b = b, .c = d, .beta = 0.5}, {});
    for (int64_t i = 0; i < d.size(); ++i) {
      EXPECT_EQ(testing::ElementAt(d, i), 0.5 * before[static_cast<size_t>(i)]);
    }
  }
}

TEST(Gemm, EmptyResultIsFine) {
  GuardAllocator memory;
  const Tensor none = Tensor::Empty({0, 4}, DType::kF32, memory);
  const Tensor b = testing::Normal("b", {4, 5}, DType::kF32, memory);
  const Tensor c = Tensor::Empty({0, 5}, DType::kF32, memory);
  Gemm({.a = none, .b = b, .c = c}, {});
  // An empty batch adds nothing to a weight gradient.
  const Tensor dw = testing::Normal("dw", {4, 5}, DType::kF32, memory);
  const Tensor before = testing::Clone(dw, memory);
  Gemm({.a = none, .b = c, .c = dw, .transpose_a = true, .beta = 1.0}, {});
  testing::ExpectSameBits(dw, before, "dw");
}

TEST(Gemm, NanAndInfinityArrive) {
  GuardAllocator memory;
  const Tensor a = testing::Normal("a", {5, 9}, DType::kF32, memory);
  const Tensor b = testing::Normal("b", {9, 6}, DType::kF32, memory);
  testing::SetElement(a, 2 * 9 + 4, NAN);
  testing::SetElement(b, 3 * 6 + 1, INFINITY);
  const Tensor c = Tensor::Empty({5, 6}, DType::kF32, memory);
  Gemm({.a = a, .b = b, .c = c}, {});
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 6; ++j) {
      EXPECT_EQ(std::isfinite(testing::ElementAt(c, i * 6 + j)), i != 2 && j != 1) << i << ", " << j;
    }
  }
}

// The same product twice is the same in bits, also next to others, and the caller's thread count is left alone.
TEST(Gemm, RepeatsAndLeavesThreadCountAlone) {
  GuardAllocator memory;
  const Tensor a = testing::Normal("a", {257, 129}, DType::kF32, memory);
  const Tensor b = testing::Normal("b", {129, 193}, DType::kF32, memory);
  const Tensor first = Tensor::Empty({257, 193}, DType::kF32, memory);
  const int before = omp_get_max_threads();
  Gemm({.a = a, .b = b, .c = first}, {.device = {}, .threads = 2});
  EXPECT_EQ(omp_get_max_threads(), before);
  Gemm({.a = a, .b = b, .c = Tensor::Empty({257, 193}, DType::kF32, memory)}, {.device = {}, .threads = 3});
  EXPECT_EQ(omp_get_max_threads(), before);
  std::vector<Tensor> results;
  for (int i = 0; i < 4; ++i) {
    results.push_back(Tensor::Empty({257, 193}, DType::kF32, memory));
  }
  std::vector<std::thread> callers;
  for (const Tensor& c : results) {
    callers.emplace_back([&a, &b, &c] {
      for (int i = 0; i < 5; ++i) {
        Gemm({.a = a, .b = b, .c = c}, {.device = {}, .threads = 2});
      }
    });
  }
  for (std::thread& caller : callers) {
    caller.join();
  }
  for (const Tensor& c : results) {
    testing::ExpectSameBits(c, first, "c");
  }
}

TEST(Gemm, SaysWhatIsWrong) {
  GuardAllocator memory;
  const Tensor a = testing::Normal("a", {3, 4}, DType::kF32, memory);
  const Tensor b = testing::Normal("b", {5, 6}, DType::kF32, memory);
  const Tensor c = Tensor::Empty({3, 6}, DType::kF32, memory);
  try {
    Gemm({.a = a, .b = b, .c = c}, {});
    FAIL() << "accepted [3, 4] x [5, 6]";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "Gemm: argument b should have shape [4, 6], it has [5, 6]");
    EXPECT_EQ(error.code(), ExitCode::kInternal);
  }
  const Tensor wide = Tensor::Empty({3, 6}, DType::kF64, memory);
  const Tensor b4 = testing::Normal("b", {4, 6}, DType::kF32, memory);
  EXPECT_THROW(Gemm({.a = a, .b = b4, .c = wide}, {}), Error);
  EXPECT_THROW(Gemm({.a = a, .b = b4}, {}), Error);
  EXPECT_THROW(Gemm({.a = a, .b = b4, .c = c}, {.device = {}, .threads = 0}), Error);
  EXPECT_THROW(Gemm({.a = a, .b = b4, .c = c}, {.device = {.kind = DeviceKind::kCuda}}), Error);
}

}  // namespace
}  // namespace ksa
