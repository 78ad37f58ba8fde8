#include "kernels/optimizer/adamw.h"

#include <cmath>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::Bounded;
using testing::BoundedValues;
using testing::Constant;
using testing::GuardAllocator;

struct Problem {
  Problem(int64_t size, DType dtype, bool with_compute, Allocator& memory) : n(size) {
    weight = testing::Normal("weight", {n}, dtype, memory);
    grad = testing::Normal("grad", {n}, dtype, memory);
    exp_avg = testing::Normal("exp_avg", {n}, dtype, memory);
    exp_avg_sq = testing::Normal("exp_avg_sq", {n}, dtype, memory);
    for (int64_t i = 0; i < n; ++i) {
      testing::SetElement(exp_avg_sq, i, std::abs(testing::ElementAt(exp_avg_sq, i)));
    }
    grad_scale = Tensor::Empty({1}, DType::kF64, memory);
    *grad_scale.As<double>() = 0.37;
    if (with_compute) {
      compute = Tensor::Empty({n}, DType::kBF16, memory);
    }
  }

  [[nodiscard]] AdamWArgs Args(int64_t first, int64_t count) const {
    return {.weight = weight.view().Rows(first, count),
            .grad = grad.view().Rows(first, count),
            .exp_avg = exp_avg.view().Rows(first, count),
            .exp_avg_sq = exp_avg_sq.view().Rows(first, count),
            .compute = compute.empty() ? TensorView{} : compute.view().Rows(first, count),
            .grad_scale = grad_scale,
            .lr = 3e-3,
            .beta1 = 0.9,
            .beta2 = 0.95,
            .eps = 1e-8,
            .weight_decay = 0.1,
            .step = 7};
  }

  int64_t n;
  Tensor weight, grad, exp_avg, exp_avg_sq, compute, grad_scale;
};

// The paper's update with PyTorch's order, one parameter at a time.
void Update(const AdamWArgs& a, size_t i, BoundedValues& weight, BoundedValues& m, BoundedValues& v) {
  const DType dtype = a.weight.dtype;
  const auto c = [&](long double value) { return Constant(value, dtype); };
  const auto t = static_cast<long double>(a.step);
  const long double beta1 = a.beta1;
  const long double beta2 = a.beta2;
  const Bounded g = testing::Exact(a.grad)[i] * c(*a.grad_scale.As<double>());
  weight[i] = weight[i] * c(1.0L - static_cast<long double>(a.lr) * a.weight_decay);
  m[i] = c(beta1) * m[i] + c(1.0L - beta1) * g;
  v[i] = c(beta2) * v[i] + c(1.0L - beta2) * g * g;
  const Bounded denominator = Sqrt(v[i]) / c(std::sqrt(1.0L - std::pow(beta2, t))) + c(a.eps);
  weight[i] = weight[i] - c(a.lr / (1.0L - std::pow(beta1, t))) * (m[i] / denominator);
}

TEST(AdamW, MatchesDefinition) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const int64_t n : {1, 3, 7, 113, 1023}) {
      for (const int64_t step : {1, 2, 1000}) {
        SCOPED_TRACE(fmt::format("{} of {}, step {}", n, NameOf(dtype), step));
        GuardAllocator memory;
        const Problem p(n, dtype, false, memory);
        AdamWArgs args = p.Args(0, n);
        args.step = step;
        BoundedValues weight = testing::Exact(p.weight);
        BoundedValues m = testing::Exact(p.exp_avg);
        BoundedValues v = testing::Exact(p.exp_avg_sq);
        for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
          Update(args, i, weight, m, v);
        }
        AdamW(args, {});
        testing::ExpectWithinBound(p.weight, weight, "weight");
        testing::ExpectWithinBound(p.exp_avg, m, "exp_avg");
        testing::ExpectWithinBound(p.exp_avg_sq, v, "exp_avg_sq");
      }
    }
  }
}

// One weight by hand: w = 2, g = 0.5, first step, so m/(1-b1) = g, v/(1-b2) = g², and the update is lr times the sign.
TEST(AdamW, FirstStepByHand) {
  GuardAllocator memory;
  const Tensor w = Tensor::Zeros({1}, DType::kF64, memory);
  const Tensor g = Tensor::Zeros({1}, DType::kF64, memory);
  const Tensor m = Tensor::Zeros({1}, DType::kF64, memory);
  const Tensor v = Tensor::Zeros({1}, DType::kF64, memory);
  w.As<double>()[0] = 2.0;
  g.As<double>()[0] = 0.5;
  AdamW({.weight = w, .grad = g, .exp_avg = m, .exp_avg_sq = v, .lr = 0.1, .eps = 0.0, .weight_decay = 0.5}, {});
  EXPECT_DOUBLE_EQ(w.As<double>()[0], 2.0 * 0.95 - 0.1);
  EXPECT_DOUBLE_EQ(m.As<double>()[0], 0.05);
  EXPECT_NEAR(v.As<double>()[0], 0.0125, 0x1p-53 * 0.25);  // 1 - 0.95 is off by up to 2^-53
}

TEST(AdamW, WritesTheComputeCopy) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    GuardAllocator memory;
    const Problem with(1023, dtype, true, memory);
    const Problem without(1023, dtype, false, memory);
    AdamW(with.Args(0, 1023), {});
    AdamW(without.Args(0, 1023), {});
    testing::ExpectSameBits(with.weight, without.weight, "weight");
    for (int64_t i = 0; i < 1023; ++i) {
      const BFloat16 rounded(static_cast<float>(testing::ElementAt(with.weight, i)));
      EXPECT_EQ(with.compute.As<BFloat16>()[i].bits, rounded.bits);
    }
  }
}

// A rank of a sharded optimizer updates a range: the same bits as when one rank updates all.
TEST(AdamW, RangesAndThreadsDoNotMatter) {
  GuardAllocator memory;
  constexpr int64_t kSize = 50021;
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
      const Problem p(kSize, dtype, true, memory);
      AdamW(p.Args(0, kSize), stream);
      return std::vector<Tensor>{p.weight, p.exp_avg, p.exp_avg_sq, p.compute};
    });
    const Problem whole(kSize, dtype, false, memory);
    const Problem parts(kSize, dtype, false, memory);
    AdamW(whole.Args(0, kSize), {});
    for (int64_t first = 0; first < kSize;) {
      const int64_t count = std::min<int64_t>(kSize - first, 1 + first % 977);
      AdamW(parts.Args(first, count), {});
      first += count;
    }
    testing::ExpectSameBits(whole.weight, parts.weight, "weight");
    testing::ExpectSameBits(whole.exp_avg, parts.exp_avg, "exp_avg");
    testing::ExpectSameBits(whole.exp_avg_sq, parts.exp_avg_sq, "exp_avg_sq");
  }
}

// A loss or norm that is not finite leaves everything as it was, compute weights included.
TEST(AdamW, SkipsTheUpdateWhenTheFactorIsNotFinite) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      GuardAllocator memory;
      const Problem p(113, dtype, true, memory);
      *p.grad_scale.As<double>() = bad;
      const std::vector<Tensor> state = {p.weight, p.exp_avg, p.exp_avg_sq, p.compute};
      std::vector<Tensor> before;
      for (const Tensor& x : state) {
        before.push_back(testing::Clone(x, memory));
      }
      AdamW(p.Args(0, 113), {});
      for (size_t i = 0; i < state.size(); ++i) {
        testing::ExpectSameBits(state[i], before[i], "what a skipped update must not write");
      }
    }
  }
}

TEST(AdamW, RefusesWrongArguments) {
  GuardAllocator memory;
  const Problem p(5, DType::kF32, false, memory);
  AdamWArgs args = p.Args(0, 5);
  args.step = 0;
  EXPECT_THROW(AdamW(args, {}), Error);
  args = p.Args(0, 5);
  args.grad = p.grad.view().Rows(0, 4);
  EXPECT_THROW(AdamW(args, {}), Error);
  args = p.Args(0, 5);
  args.weight = testing::Normal("bf16", {5}, DType::kBF16, memory);
  EXPECT_THROW(AdamW(args, {}), Error);
  args = p.Args(0, 5);
  args.grad_scale = testing::Normal("narrow", {1}, DType::kF32, memory);
  EXPECT_THROW(AdamW(args, {}), Error);
}

}  // namespace
}  // namespace ksa
