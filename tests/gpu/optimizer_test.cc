#include <cmath>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/clip_scale.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using GpuOptimizer = testing::GpuTest;

struct State {
  Tensor weight, grad, exp_avg, exp_avg_sq, compute, grad_scale;

  void Step(int64_t first, int64_t count, int64_t step, const Stream& stream) const {
    AdamW({.weight = weight.Rows(first, count),
           .grad = grad.Rows(first, count),
           .exp_avg = exp_avg.Rows(first, count),
           .exp_avg_sq = exp_avg_sq.Rows(first, count),
           .compute = compute.empty() ? TensorView{} : compute.view().Rows(first, count),
           .grad_scale = grad_scale,
           .lr = 3e-3,
           .weight_decay = 0.1,
           .step = step},
          stream);
  }
};

class GpuAdamW : public testing::GpuTest {
 protected:
  State Plain(int64_t n, double scale) {
    State s{.weight = testing::Normal("weight", {n}, DType::kF32, host()),
            .grad = testing::Normal("grad", {n}, DType::kF32, host()),
            .exp_avg = testing::Normal("exp_avg", {n}, DType::kF32, host()),
            .exp_avg_sq = testing::Normal("exp_avg_sq", {n}, DType::kF32, host()),
            .compute = Tensor::Empty({n}, DType::kBF16, host()),
            .grad_scale = Tensor::Empty({1}, DType::kF64, host())};
    for (int64_t i = 0; i < n; ++i) {
      s.exp_avg_sq.As<float>()[i] = std::abs(s.exp_avg_sq.As<float>()[i]);
    }
    *s.grad_scale.As<double>() = scale;
    return s;
  }

  State Exact(const State& s) {
    return {.weight = Cast(s.weight, DType::kF64),
            .grad = Cast(s.grad, DType::kF64),
            .exp_avg = Cast(s.exp_avg, DType::kF64),
            .exp_avg_sq = Cast(s.exp_avg_sq, DType::kF64),
            .grad_scale = Cast(s.grad_scale, DType::kF64)};
  }

  State OnGpu(const State& s) {
    return {.weight = ToGpu(s.weight),
            .grad = ToGpu(s.grad),
            .exp_avg = ToGpu(s.exp_avg),
            .exp_avg_sq = ToGpu(s.exp_avg_sq),
            .compute = ToGpu(s.compute),
            .grad_scale = ToGpu(s.grad_scale)};
  }

  void ExpectSame(const State& a, const State& b) {
    testing::ExpectSameBits(ToCpu(a.weight), ToCpu(b.weight), "weight");
    testing::ExpectSameBits(ToCpu(a.exp_avg), ToCpu(b.exp_avg), "exp_avg");
    testing::ExpectSameBits(ToCpu(a.exp_avg_sq), ToCpu(b.exp_avg_sq), "exp_avg_sq");
    testing::ExpectSameBits(ToCpu(a.compute), ToCpu(b.compute), "compute");
  }
};

TEST_F(GpuAdamW, AsAccurateAsTheCpu) {
  for (const int64_t n : {0, 1, 3, 7, 113, 1023, 4096, 20011}) {
    for (const int64_t step : {1, 1000}) {
      SCOPED_TRACE(fmt::format("{}, step {}", n, step));
      const State plain = Plain(n, 0.37);
      const State exact = Exact(plain);
      const State gpu = OnGpu(plain);
      plain.Step(0, n, step, {});
      exact.Step(0, n, step, {});
      gpu.Step(0, n, step, stream());
      testing::ExpectAsAccurate(ToCpu(gpu.weight), plain.weight, exact.weight, "weight");
      testing::ExpectAsAccurate(ToCpu(gpu.exp_avg), plain.exp_avg, exact.exp_avg, "exp_avg");
      testing::ExpectAsAccurate(ToCpu(gpu.exp_avg_sq), plain.exp_avg_sq, exact.exp_avg_sq, "exp_avg_sq");
      testing::ExpectSameBits(ToCpu(gpu.compute), Cast(ToCpu(gpu.weight), DType::kBF16), "compute");
    }
  }
}

TEST_F(GpuAdamW, RangesAndTheComputeCopyDoNotMatter) {
  constexpr int64_t kSize = 20011;
  const State plain = Plain(kSize, 0.37);
  const State whole = OnGpu(plain);
  const State parts = OnGpu(plain);
  State alone = OnGpu(plain);
  alone.compute = Tensor();
  whole.Step(0, kSize, 7, stream());
  alone.Step(0, kSize, 7, stream());
  for (int64_t first = 0; first < kSize;) {
    const int64_t count = std::min<int64_t>(kSize - first, 1 + first % 977);
    parts.Step(first, count, 7, stream());
    first += count;
  }
  ExpectSame(whole, parts);
  alone.compute = whole.compute;
  ExpectSame(whole, alone);
}

TEST_F(GpuAdamW, SkipsTheUpdateWhenTheFactorIsNotFinite) {
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    const State plain = Plain(1023, bad);
    const State gpu = OnGpu(plain);
    gpu.Step(0, 1023, 7, stream());
    testing::ExpectSameBits(ToCpu(gpu.weight), plain.weight, "weight");
    testing::ExpectSameBits(ToCpu(gpu.exp_avg), plain.exp_avg, "exp_avg");
    testing::ExpectSameBits(ToCpu(gpu.exp_avg_sq), plain.exp_avg_sq, "exp_avg_sq");
    testing::ExpectSameBits(ToCpu(gpu.compute), plain.compute, "compute");
  }
}

TEST_F(GpuOptimizer, ClipScaleIsTheCpus) {
  for (const double loss : {2.5, std::nan(""), HUGE_VAL}) {
    for (const double squares : {0.0, 16.0, 1e300, std::nan(""), HUGE_VAL}) {
      for (const double clip : {0.0, 1.0, 5.0}) {
        const Tensor stats = Tensor::Empty({2}, DType::kF64, host());
        const Tensor want = Tensor::Empty({1}, DType::kF64, host());
        stats.As<double>()[0] = loss;
        stats.As<double>()[1] = squares;
        ClipScale({.stats = stats, .scale = want, .clip = clip}, {});
        const Tensor scale = Tensor::Empty({1}, DType::kF64, device());
        ClipScale({.stats = ToGpu(stats), .scale = scale, .clip = clip}, stream());
        const double got = *ToCpu(scale).As<double>();
        EXPECT_TRUE(got == *want.As<double>() || (std::isnan(got) && std::isnan(*want.As<double>())))
            << loss << ", " << squares << ", " << clip << ": " << got << " instead of " << *want.As<double>();
      }
    }
  }
}

}  // namespace
}  // namespace ksa
