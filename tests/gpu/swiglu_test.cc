#include "kernels/activation/swiglu.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/gpu/support.h"

namespace ksa {
namespace {

using GpuSwiglu = testing::GpuTest;

// The three inputs of one call and its three outputs.
struct Call {
  Tensor dy, gate, up, y, dgate, dup;

  void Run(const Stream& stream) const {
    SwigluForward({.gate = gate, .up = up, .y = y}, stream);
    SwigluBackward({.dy = dy, .gate = gate, .up = up, .dgate = dgate, .dup = dup}, stream);
  }

  void MakeOutputs(Allocator& allocator) {
    for (Tensor* out : {&y, &dgate, &dup}) {
      *out = Tensor::Empty(gate.shape(), gate.dtype(), allocator);
    }
  }
};

TEST_F(GpuSwiglu, AsAccurateAsTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Shape& shape :
         {Shape{0, 7}, Shape{1, 1}, Shape{3, 7}, Shape{5, 113}, Shape{33, 1000}, Shape{17, 6144}}) {
      SCOPED_TRACE(fmt::format("{} of {}", shape.ToString(), NameOf(dtype)));
      Call plain{.dy = testing::Normal("dy", shape, dtype, host()),
                 .gate = testing::Normal("gate", shape, dtype, host()),
                 .up = testing::Normal("up", shape, dtype, host())};
      Axpby(4.0, plain.gate, 0.0, plain.gate, {});  // reaches both flat ends of the sigmoid
      Call exact{
          .dy = Cast(plain.dy, DType::kF64), .gate = Cast(plain.gate, DType::kF64), .up = Cast(plain.up, DType::kF64)};
      Call gpu{.dy = ToGpu(plain.dy), .gate = ToGpu(plain.gate), .up = ToGpu(plain.up)};
      plain.MakeOutputs(host());
      exact.MakeOutputs(host());
      gpu.MakeOutputs(device());
      plain.Run({});
      exact.Run({});
      gpu.Run(stream());
      testing::ExpectAsAccurate(ToCpu(gpu.y), plain.y, exact.y, "y");
      testing::ExpectAsAccurate(ToCpu(gpu.dgate), plain.dgate, exact.dgate, "dgate");
      testing::ExpectAsAccurate(ToCpu(gpu.dup), plain.dup, exact.dup, "dup");
      ExpectRepeats([&] {
        gpu.Run(stream());
        return std::vector<Tensor>{gpu.y, gpu.dgate, gpu.dup};
      });
      // The gradients may take the place of the inputs.
      SwigluBackward({.dy = gpu.dy, .gate = gpu.gate, .up = gpu.up, .dgate = gpu.dy, .dup = gpu.up}, stream());
      testing::ExpectSameBits(ToCpu(gpu.dy), ToCpu(gpu.dgate), "dgate in place");
      testing::ExpectSameBits(ToCpu(gpu.up), ToCpu(gpu.dup), "dup in place");
    }
  }
}

TEST_F(GpuSwiglu, LargeInputsDoNotOverflow) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor gate = Tensor::Empty({4}, dtype, host());
    const Tensor one = Tensor::Empty({4}, dtype, host());
    for (int64_t i = 0; i < 4; ++i) {
      testing::SetElement(gate, i, std::array{-1000.0, -88.0, 88.0, 1000.0}[static_cast<size_t>(i)]);
      testing::SetElement(one, i, 1.0);
    }
    const Tensor y = Tensor::Empty({4}, dtype, device());
    SwigluForward({.gate = ToGpu(gate), .up = ToGpu(one), .y = y}, stream());
    const std::vector<double> values = testing::ToDouble(ToCpu(y));
    EXPECT_NEAR(values[0], 0.0, 1e-30);
    EXPECT_NEAR(values[1], 0.0, 1e-30);
    EXPECT_EQ(values[2], 88.0);
    EXPECT_EQ(values[3], 1000.0);
  }
}

}  // namespace
}  // namespace ksa
