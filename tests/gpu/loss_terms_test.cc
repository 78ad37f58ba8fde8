// The loss of several terms, and the attention term of self-distillation, on the GPU against the CPU.
#include <cmath>
#include <limits>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/distill/attention_term.h"
#include "kernels/loss/linear_cross_entropy.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using testing::Normal;

struct LossInputs {
  Tensor x, weight, targets, teacher;
};

struct LossResults {
  Tensor row_loss, sums, dx, dweight;  // sums: loss, the three terms, the largest logit
};

class GpuLossTermsTest : public testing::GpuTest {
 protected:
  LossInputs Inputs(int64_t n, int64_t v, DType dtype, bool with_teacher) {
    LossInputs in = {Normal("x", {n, 24}, dtype, host()),
                     Normal("weight", {v, 24}, dtype, host()),
                     testing::Integers("targets", {n}, 0, static_cast<int32_t>(v), host()),
                     with_teacher ? Normal("teacher", {n, 24}, dtype, host()) : Tensor()};
    for (int64_t r = 2; r < n; r += 5) {
      in.targets.As<int32_t>()[r] = -1;
    }
    return in;
  }

  static LossResults Run(const LossInputs& in, const Tensor& start, Allocator& memory, const Stream& where) {
    LossResults out;
    out.row_loss = Tensor::Empty({in.x.rows()}, AccumulationType(in.x.dtype()), memory);
    out.sums = start;
    out.dx = Tensor::Empty(in.x.shape(), in.x.dtype(), memory);
    out.dweight = Tensor::Empty(in.weight.shape(), AccumulationType(in.x.dtype()), memory);
    LinearCrossEntropy({.x = in.x,
                        .weight = in.weight,
                        .targets = in.targets,
                        .row_loss = out.row_loss,
                        .loss_sum = out.sums.Rows(0, 1),
                        .weights = {.lm = 0.5, .kl = in.teacher.empty() ? 0.0 : 2.0, .z = 1e-2},
                        .teacher_x = in.teacher,
                        .term_sums = out.sums.Rows(1, 3),
                        .largest = out.sums.Rows(4, 1),
                        .dx = out.dx,
                        .dweight = out.dweight,
                        .accumulate = false,
                        .grad_scale = 0.25,
                        .allocator = &memory},
                       where);
    return out;
  }

  Tensor Start() {
    Tensor start = Tensor::Zeros({5}, DType::kF64, host());
    start.As<double>()[4] = -std::numeric_limits<double>::infinity();
    return start;
  }

  LossResults OnCpu(const LossInputs& in, DType dtype) {
    const LossInputs cast = {
        Cast(in.x, dtype), Cast(in.weight, dtype), in.targets, in.teacher.empty() ? Tensor() : Cast(in.teacher, dtype)};
    return Run(cast, Start(), host(), {});
  }

  LossResults OnGpu(const LossInputs& in) {
    const LossInputs moved = {ToGpu(in.x), ToGpu(in.weight), ToGpu(in.targets), ToGpu(in.teacher)};
    return Run(moved, ToGpu(Start()), device(), stream());
  }
};

TEST_F(GpuLossTermsTest, AgreesWithTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool with_teacher : {true, false}) {
      for (const int64_t v : {1, 113, 1032, 30001}) {
        SCOPED_TRACE(fmt::format("{} vocabulary {} teacher {}", NameOf(dtype), v, with_teacher));
        const LossInputs in = Inputs(37, v, dtype, with_teacher);
        const LossResults exact = OnCpu(in, DType::kF64);
        const LossResults plain = OnCpu(in, dtype);
        const LossResults actual = OnGpu(in);
        // Logarithms of sums that are rounded to fp32, of logits of some ten units.
        testing::ExpectAsAccurate(ToCpu(actual.row_loss), plain.row_loss, exact.row_loss, "row_loss", 8.0);
        const Tensor sums = ToCpu(actual.sums);
        for (int64_t i = 0; i < 5; ++i) {
          const double want = exact.sums.As<double>()[i];
          EXPECT_NEAR(sums.As<double>()[i], want, 2e-5 * (1.0 + std::abs(want))) << "sum " << i;
        }
        testing::ExpectAsAccurate(ToCpu(actual.dx), plain.dx, exact.dx, "dx", 4.0);
        testing::ExpectAsAccurate(ToCpu(actual.dweight), plain.dweight, exact.dweight, "dweight", 4.0);
        ExpectRepeats([&]() -> std::vector<Tensor> {
          const LossResults again = OnGpu(in);
          return {again.row_loss, again.sums, again.dx, again.dweight};
        });
      }
    }
  }
}

TEST_F(GpuLossTermsTest, AttentionTermAgreesWithTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool normalize : {false, true}) {
      for (const int64_t columns : {1, 33, 2048}) {
        SCOPED_TRACE(fmt::format("{} columns {} normalize {}", NameOf(dtype), columns, normalize));
        const Tensor student = Normal("student", {29, columns}, dtype, host());
        const Tensor teacher = Normal("teacher", {29, columns}, dtype, host());
        const auto run = [&](const Tensor& s, const Tensor& t, Allocator& memory, const Tensor& sum, const Stream& at) {
          Tensor gradient = Tensor::Empty(s.shape(), s.dtype(), memory);
          AttentionTerm({.student = s,
                         .teacher = t,
                         .dstudent = gradient,
                         .sum = sum,
                         .scale = 0.5,
                         .normalize = normalize,
                         .allocator = &memory},
                        at);
          return gradient;
        };
        const Tensor exact_sum = Tensor::Zeros({1}, DType::kF64, host());
        const Tensor plain_sum = Tensor::Zeros({1}, DType::kF64, host());
        const Tensor exact = run(Cast(student, DType::kF64), Cast(teacher, DType::kF64), host(), exact_sum, {});
        const Tensor plain = run(student, teacher, host(), plain_sum, {});
        const Tensor sum = ToGpu(Tensor::Zeros({1}, DType::kF64, host()));
        const Tensor actual = run(ToGpu(student), ToGpu(teacher), device(), sum, stream());
        testing::ExpectAsAccurate(ToCpu(actual), plain, exact, "gradient", 4.0);
        const double want = exact_sum.As<double>()[0];
        EXPECT_NEAR(ToCpu(sum).As<double>()[0], want, 1e-5 * (1.0 + want));
      }
    }
  }
}

TEST_F(GpuLossTermsTest, LargestElement) {
  const Tensor x = Normal("x", {70001}, DType::kF32, host());
  x.As<float>()[69999] = 77.0F;
  Tensor out = Tensor::Zeros({1}, DType::kF64, host());
  Tensor there = ToGpu(out);
  RaiseToLargest(ToGpu(x), there, stream());
  EXPECT_EQ(ToCpu(there).As<double>()[0], 77.0);
  x.As<float>()[5] = NAN;
  RaiseToLargest(ToGpu(x), there, stream());
  EXPECT_TRUE(std::isnan(ToCpu(there).As<double>()[0]));
}

}  // namespace
}  // namespace ksa
