#include <array>
#include <cmath>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/copy/elementwise.h"
#include "kernels/norm/rms_norm.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

struct Case {
  int64_t n;
  int64_t d;
  DType dtype;
  bool two_weights;
};

// All tensors of a forward and a backward call.
struct Call {
  int64_t split = 0;
  Allocator* scratch = nullptr;
  Tensor x, residual, weight, weight_summary, dy, past, dweight, dweight_summary;
  Tensor sum, y, rstd, dx;

  void Forward(const Stream& stream) const {
    RmsNormForward({.x = x,
                    .residual = residual,
                    .sum_out = residual.empty() ? Tensor() : sum,
                    .weight = weight,
                    .weight_summary = weight_summary,
                    .y = y,
                    .rstd = rstd,
                    .split = split,
                    .eps = 1e-5},
                   stream);
  }

  void Backward(bool accumulate, const Stream& stream) const {
    RmsNormBackward({.dy = dy,
                     .x = residual.empty() ? x : sum,
                     .rstd = rstd,
                     .weight = weight,
                     .weight_summary = weight_summary,
                     .dx_residual = past,
                     .dx = dx,
                     .dweight = dweight,
                     .dweight_summary = dweight_summary,
                     .split = split,
                     .accumulate = accumulate,
                     .accumulate_summary = !accumulate,
                     .allocator = scratch},
                    stream);
  }
};

class GpuNorm : public testing::GpuTest {
 protected:
  Call Plain(const Case& c, bool residual) {
    const DType wide = AccumulationType(c.dtype);
    Call call{.split = c.n * 2 / 3,
              .x = testing::Normal("x", {c.n, c.d}, c.dtype, host()),
              .weight = testing::Normal("weight", {c.d}, c.dtype, host()),
              .dy = testing::Normal("dy", {c.n, c.d}, c.dtype, host()),
              .dweight = testing::Normal("dweight", {c.d}, wide, host())};
    if (c.two_weights) {
      call.weight_summary = testing::Normal("weight_summary", {c.d}, c.dtype, host());
      call.dweight_summary = testing::Normal("dweight_summary", {c.d}, wide, host());
    }
    if (residual) {
      call.residual = testing::Normal("residual", {c.n * 3 / 4, c.d}, c.dtype, host());
      call.past = testing::Normal("past", {c.n, c.d}, c.dtype, host());
    }
    return call;
  }

  template <typename Map>
  static Call Mapped(const Call& from, Allocator& memory, const Map& map) {
    Call call{.split = from.split,
              .scratch = &memory,
              .x = map(from.x),
              .residual = map(from.residual),
              .weight = map(from.weight),
              .weight_summary = map(from.weight_summary),
              .dy = map(from.dy),
              .past = map(from.past),
              .dweight = map(from.dweight),
              .dweight_summary = map(from.dweight_summary)};
    MakeOutputs(call, memory);
    return call;
  }

  static void MakeOutputs(Call& call, Allocator& memory) {
    for (Tensor* out : {&call.sum, &call.y, &call.dx}) {
      *out = Tensor::Empty(call.x.shape(), call.x.dtype(), memory);
    }
    call.rstd = Tensor::Empty({call.x.rows()}, AccumulationType(call.x.dtype()), memory);
  }

  Call OnGpu(const Call& plain) {
    return Mapped(plain, device(), [&](const Tensor& x) { return ToGpu(x); });
  }

  void Check(const Case& c) {
    SCOPED_TRACE(fmt::format("{} x {} of {}, two weights {}", c.n, c.d, NameOf(c.dtype), c.two_weights));
    Call plain = Plain(c, false);
    const auto widen = [&](const Tensor& x) { return x.empty() ? Tensor() : Cast(x, DType::kF64); };
    const Call exact = Mapped(plain, host(), widen);
    const Call gpu = OnGpu(plain);
    const Call again = OnGpu(plain);
    MakeOutputs(plain, host());
    for (const Call* call : std::array<const Call*, 2>{&plain, &exact}) {
      call->Forward({});
      call->Backward(true, {});
    }
    for (const Call* call : std::array<const Call*, 2>{&gpu, &again}) {
      call->Forward(stream());
      call->Backward(true, stream());
    }
    testing::ExpectAsAccurate(ToCpu(gpu.y), plain.y, exact.y, "y");
    testing::ExpectAsAccurate(ToCpu(gpu.rstd), plain.rstd, exact.rstd, "rstd", 2.0);
    testing::ExpectAsAccurate(ToCpu(gpu.dx), plain.dx, exact.dx, "dx");
    // A sum's roundings follow the size of its parts, which for n random terms is the root of n.
    const double units = 2.0 + std::sqrt(static_cast<double>(c.n));
    testing::ExpectAsAccurate(ToCpu(gpu.dweight), plain.dweight, exact.dweight, "dweight", units);
    for (const auto& [a, b] :
         {std::pair{&gpu.y, &again.y}, std::pair{&gpu.dx, &again.dx}, std::pair{&gpu.dweight, &again.dweight}}) {
      testing::ExpectSameBits(ToCpu(*a), ToCpu(*b), "a second run's output");
    }
    if (c.two_weights) {
      testing::ExpectAsAccurate(
          ToCpu(gpu.dweight_summary), plain.dweight_summary, exact.dweight_summary, "dweight_summary", units);
      testing::ExpectSameBits(ToCpu(gpu.dweight_summary), ToCpu(again.dweight_summary), "a second run's output");
    }
  }
};

TEST_F(GpuNorm, AsAccurateAsTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t d : {1, 7, 64, 256, 512, 1000, 1024, 2048, 3000, 4096, 5120, 8192, 8200}) {
      Check({.n = d < 1000 ? 1033 : 37, .d = d, .dtype = dtype, .two_weights = d % 3 != 0});
    }
    for (const int64_t n : {0, 1, 2, 3, 5, 1500}) {
      Check({.n = n, .d = 2048, .dtype = dtype, .two_weights = true});
    }
  }
}

// With a residual both ways: the bits of Add and norm one after the other.
TEST_F(GpuNorm, ResidualIsASeparateAdd) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t d : {7, 1000, 2048, 4096}) {
      SCOPED_TRACE(fmt::format("d {} of {}", d, NameOf(dtype)));
      const Call plain = Plain({.n = 67, .d = d, .dtype = dtype, .two_weights = true}, true);
      Call fused = OnGpu(plain);
      Call apart = OnGpu(plain);
      fused.Forward(stream());
      fused.Backward(true, stream());

      const int64_t rows = apart.residual.rows();
      Add(apart.x.Rows(0, rows), apart.residual, apart.x.Rows(0, rows), stream());
      apart.residual = Tensor();
      apart.past = Tensor();
      apart.Forward(stream());
      apart.Backward(true, stream());
      Add(fused.past, apart.dx, apart.dx, stream());
      testing::ExpectSameBits(ToCpu(fused.sum), ToCpu(apart.x), "sum");
      testing::ExpectSameBits(ToCpu(fused.y), ToCpu(apart.y), "y");
      testing::ExpectSameBits(ToCpu(fused.dx), ToCpu(apart.dx), "dx");
      testing::ExpectSameBits(ToCpu(fused.dweight), ToCpu(apart.dweight), "dweight");

      // Both may be done in place.
      Call in_place = OnGpu(plain);
      in_place.sum = in_place.x;
      in_place.dx = in_place.past;
      in_place.Forward(stream());
      in_place.Backward(true, stream());
      testing::ExpectSameBits(ToCpu(in_place.x), ToCpu(fused.sum), "sum over x");
      testing::ExpectSameBits(ToCpu(in_place.past), ToCpu(fused.dx), "dx over what it is added to");
    }
  }
}

// Slices that start at an odd element, and gradients of the weights that nobody asks for.
TEST_F(GpuNorm, UnalignedRowsAndNoWeightGradient) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor data = testing::Normal("data", {11, 1001}, dtype, host());
    const Tensor on_gpu = ToGpu(data);
    const Tensor weight = testing::Normal("weight", {1001}, dtype, host());
    const Tensor gpu_weight = ToGpu(weight);
    const auto run = [&](const Tensor& x, const Tensor& w, Allocator& memory, const Stream& on) {
      std::vector<Tensor> out = {Tensor::Empty({5, 1001}, dtype, memory), Tensor::Empty({5, 1001}, dtype, memory)};
      const Tensor rstd = Tensor::Empty({5}, DType::kF32, memory);
      RmsNormForward({.x = x.Rows(1, 5), .weight = w, .y = out[0], .rstd = rstd}, on);
      RmsNormBackward({.dy = x.Rows(6, 5), .x = x.Rows(1, 5), .rstd = rstd, .weight = w, .dx = out[1]}, on);
      return out;
    };
    const std::vector<Tensor> gpu = run(on_gpu, gpu_weight, device(), stream());
    const std::vector<Tensor> cpu = run(data, weight, host(), {});
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_LT(testing::RelativeDifference(testing::ToDouble(ToCpu(gpu[i])), testing::ToDouble(cpu[i])),
                4.0 * testing::UnitRoundoff(dtype));
    }
  }
}

}  // namespace
}  // namespace ksa
