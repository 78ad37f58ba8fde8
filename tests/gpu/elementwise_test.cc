#include "kernels/copy/elementwise.h"

#include <cmath>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/gpu/support.h"

namespace ksa {
namespace {

using testing::ExpectAsAccurate;
using testing::ExpectSameBits;

constexpr std::array<int64_t, 9> kSizes = {0, 1, 3, 7, 113, 1023, 4097, 16385, 200003};
constexpr std::array<DType, 2> kTypes = {DType::kF32, DType::kBF16};

using GpuElementwise = testing::GpuTest;

TEST_F(GpuElementwise, CopyConvertsLikeTheCpu) {
  for (const DType from_type : kTypes) {
    for (const DType to_type : kTypes) {
      for (const int64_t size : kSizes) {
        SCOPED_TRACE(fmt::format("{} of {} to {}", size, NameOf(from_type), NameOf(to_type)));
        const Tensor from = testing::Normal("from", {size}, from_type, host());
        const Tensor to = Tensor::Empty({size}, to_type, device());
        Copy(ToGpu(from), to, stream());
        ExpectSameBits(ToCpu(to), Cast(from, to_type), "to");
      }
    }
  }
}

TEST_F(GpuElementwise, CopyOfOtherTypesIsExact) {
  for (const int64_t size : kSizes) {
    const Tensor ids = testing::Integers("ids", {size}, -50, 50, host());
    const Tensor to = Tensor::Empty({size}, DType::kI32, device());
    Copy(ToGpu(ids), to, stream());
    ExpectSameBits(ToCpu(to), ids, "int32");
    const Tensor wide = testing::Normal("wide", {size}, DType::kF64, host());
    const Tensor wide_to = Tensor::Empty({size}, DType::kF64, device());
    Copy(ToGpu(wide), wide_to, stream());
    ExpectSameBits(ToCpu(wide_to), wide, "fp64");
  }
}

// Rows of a matrix with an odd number of columns start anywhere.
TEST_F(GpuElementwise, AddressesNeedNoAlignment) {
  for (const DType dtype : kTypes) {
    const Tensor a = testing::Normal("a", {9, 4099}, dtype, host());
    const Tensor sum = Tensor::Empty({7, 4099}, dtype, host());
    Add(a.Rows(1, 7), a.Rows(2, 7), sum, {});
    const Tensor on_gpu = ToGpu(a);
    const Tensor gpu_sum = Tensor::Empty({9, 4099}, dtype, device());
    Zero(gpu_sum, stream());
    Add(on_gpu.Rows(1, 7), on_gpu.Rows(2, 7), gpu_sum.Rows(1, 7), stream());
    const Tensor back = ToCpu(gpu_sum);
    ExpectSameBits(back.Rows(1, 7), sum, "sum");
    ExpectSameBits(back.Rows(0, 1), Tensor::Zeros({1, 4099}, dtype, host()), "the row before");
    ExpectSameBits(back.Rows(8, 1), Tensor::Zeros({1, 4099}, dtype, host()), "the row behind");
    const Tensor out = ToGpu(Tensor::Zeros({1}, DType::kF64, host()));
    SumOfSquares(on_gpu.Rows(1, 5), out, stream(), &device());
    const Tensor want = Tensor::Zeros({1}, DType::kF64, host());
    SumOfSquares(a.Rows(1, 5), want, {});
    EXPECT_NEAR(*ToCpu(out).As<double>() / *want.As<double>(), 1.0, 1e-12);
  }
}

TEST_F(GpuElementwise, ZeroAddAndAxpby) {
  for (const DType dtype : kTypes) {
    for (const int64_t size : kSizes) {
      SCOPED_TRACE(fmt::format("{} of {}", size, NameOf(dtype)));
      const Tensor a = testing::Normal("a", {size}, dtype, host());
      const Tensor b = testing::Normal("b", {size}, dtype, host());
      const Tensor gpu_a = ToGpu(a);
      Tensor gpu_b = ToGpu(b);
      const Tensor y = Tensor::Empty({size}, dtype, device());
      Zero(y, stream());
      ExpectSameBits(ToCpu(y), Tensor::Zeros({size}, dtype, host()), "zero");

      const Tensor sum = Tensor::Empty({size}, dtype, host());
      Add(a, b, sum, {});
      Add(gpu_a, gpu_b, y, stream());
      ExpectSameBits(ToCpu(y), sum, "a + b");
      Add(gpu_a, gpu_b, gpu_b, stream());
      ExpectSameBits(ToCpu(gpu_b), sum, "a + b over b");

      for (const double keep : {0.0, 0.7}) {
        const Tensor exact = Cast(b, DType::kF64);
        Axpby(0.3, Cast(a, DType::kF64), keep, exact, {});
        const Tensor plain = Cast(b, dtype);
        Axpby(0.3, a, keep, plain, {});
        // With b = 0, y is not read: it may hold NaN.
        gpu_b = keep == 0.0 ? Tensor::Empty({size}, dtype, device()) : ToGpu(b);
        Axpby(0.3, gpu_a, keep, gpu_b, stream());
        ExpectAsAccurate(ToCpu(gpu_b), plain, exact, "a x + b y");
      }
    }
  }
}

TEST_F(GpuElementwise, SumOfSquares) {
  for (const DType dtype : kTypes) {
    for (const int64_t size : kSizes) {
      SCOPED_TRACE(fmt::format("{} of {}", size, NameOf(dtype)));
      const Tensor x = testing::Normal("x", {size}, dtype, host());
      const Tensor want = Tensor::Zeros({1}, DType::kF64, host());
      SumOfSquares(x, want, {});
      const Tensor gpu_x = ToGpu(x);
      const Tensor out = Tensor::Empty({1}, DType::kF64, device());
      ExpectRepeats([&] {
        Zero(out, stream());
        SumOfSquares(gpu_x, out, stream(), &device());
        return std::vector<Tensor>{out};
      });
      // Both add in fp64: at most size roundings of 2^-53 apart.
      EXPECT_NEAR(*ToCpu(out).As<double>(), *want.As<double>(), *want.As<double>() * 1e-11);
    }
  }
}

TEST_F(GpuElementwise, SumOfSquaresShowsNonFiniteElements) {
  const Tensor out = Tensor::Empty({1}, DType::kF64, device());
  for (const DType dtype : kTypes) {
    for (const int64_t at : {0, 8189, 8190, 32767, 32768, 65534}) {
      for (const double bad : {std::nan(""), -HUGE_VAL}) {
        const Tensor x = testing::Normal("x", {65535}, dtype, host());
        testing::SetElement(x, at, bad);
        Zero(out, stream());
        SumOfSquares(ToGpu(x), out, stream(), &device());
        EXPECT_FALSE(std::isfinite(*ToCpu(out).As<double>())) << NameOf(dtype) << " at " << at;
      }
    }
  }
  EXPECT_THROW(SumOfSquares(ToGpu(testing::Normal("x", {3}, DType::kF32, host())), out, stream()), Error);
}

// The launch of a kernel overlaps the end of the one before it. What a large kernel writes last, a small one reads
// next.
TEST_F(GpuElementwise, AKernelSeesWhatTheOneBeforeItWrote) {
  constexpr int64_t kLarge = int64_t{1} << 26;
  constexpr int64_t kSmall = 64;
  constexpr int kRounds = 50;
  const Tensor ones = Tensor::Empty({kLarge}, DType::kF32, device());
  const Tensor one = Tensor::Empty({1}, DType::kF32, host());
  *one.As<float>() = 1.0F;
  CopyFromHost(one, ones.Rows(0, 1), stream());
  for (int64_t done = 1; done < kLarge; done *= 2) {
    Copy(ones.Rows(0, done), ones.Rows(done, done), stream());
  }
  const Tensor x = Tensor::Empty({kLarge}, DType::kF32, device());
  const Tensor total = Tensor::Empty({kSmall}, DType::kF32, device());
  Zero(x, stream());
  Zero(total, stream());
  for (int round = 0; round < kRounds; ++round) {
    Add(x, ones, x, stream());
    Add(total, x.Rows(kLarge - kSmall, kSmall), total, stream());
  }
  const Tensor got = ToCpu(total);
  for (int64_t i = 0; i < kSmall; ++i) {
    ASSERT_EQ(got.As<float>()[i], kRounds * (kRounds + 1) / 2) << "element " << i;
  }
}

}  // namespace
}  // namespace ksa
