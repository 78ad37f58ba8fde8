// Attention on the GPU, every path of it, against the CPU in fp64 and in the same type.
#include "kernels/attention/attention.h"

#include <cstdint>
#include <string>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/dry.h"
#include "kernels/core/arena.h"
#include "tests/gpu/attention_case_list.h"
#include "tests/gpu/attention_gpu.h"

namespace ksa::testing {
namespace {

TEST_P(AttentionGpu, KsaLayers) {
  ExpectMatchTheCpu(KsaCases());
}

TEST_P(AttentionGpu, WindowEdges) {
  ExpectMatchTheCpu(WindowEdgeCases());
}

TEST_P(AttentionGpu, OtherLayers) {
  ExpectMatchTheCpu(OtherWindowCases());
}

TEST_P(AttentionGpu, Heads) {
  ExpectMatchTheCpu(HeadCases());
}

TEST_P(AttentionGpu, ManyTiles) {
  ExpectMatchTheCpu(ManyTilesCases());
}

TEST_P(AttentionGpu, Documents) {
  ExpectMatchTheCpu(DocumentCases());
}

TEST_P(AttentionGpu, OddHeadDims) {
  ExpectMatchTheCpu(OddHeadDimCases());
}

TEST_P(AttentionGpu, EntriesInTheWindow) {
  ExpectMatchTheCpu(OverlapCases());
}

TEST_P(AttentionGpu, ValuesOfAnotherWidth) {
  ExpectMatchTheCpu(ValueDimCases());
}

INSTANTIATE_TEST_SUITE_P(Paths, AttentionGpu, ::testing::ValuesIn(kPaths), [](const auto& path) {
  return path.param.name;
});

class AttentionGpuCalls : public GpuTest {
 protected:
  // The message with which forward refuses a case in a type on a path.
  std::string Refusal(const AttentionCase& c, DType dtype, AttentionPath path) {
    AttentionTensors tensors(c, dtype, host());
    for (Tensor* x : {&tensors.q, &tensors.k, &tensors.v, &tensors.out, &tensors.lse}) {
      *x = ToGpu(*x);
    }
    try {
      AttentionForward(
          {tensors.q, tensors.k, tensors.v, tensors.out, tensors.lse, c.Layout(), c.window, path, &device()}, stream());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kInternal);
      return error.what();
    }
    return "";
  }

  // End of the highest block that tensors and scratch of one forward and backward take.
  static int64_t Extent(const AttentionCase& c, DType dtype, const Stream& stream, SlabSource& slabs) {
    ArenaAllocator arena(slabs, int64_t{1} << 30);
    const auto take = [&](int64_t rows, int64_t heads, int64_t dim) {
      return Tensor::Empty({rows, heads, dim}, dtype, arena);
    };
    const Tensor q = take(c.QueryRows(), c.heads, c.dim);
    const Tensor k = take(c.KeyRows(), c.groups, c.dim);
    const Tensor v = take(c.KeyRows(), c.groups, c.ValueDim());
    const Tensor dk = take(c.KeyRows(), c.groups, c.dim);
    const Tensor dv = take(c.KeyRows(), c.groups, c.ValueDim());
    const Tensor out = take(c.QueryRows(), c.heads, c.ValueDim());
    const Tensor lse = Tensor::Empty({c.QueryRows(), c.heads}, DType::kF32, arena);
    const AttentionPath path = AttentionPath::kAuto;
    AttentionForward({q, k, v, out, lse, c.Layout(), c.window, path, &arena}, stream);
    AttentionBackward({q, k, v, out, lse, out, q, dk, dv, c.Layout(), c.window, path, &arena}, stream);
    Synchronize(stream);
    return arena.extent();
  }
};

TEST_F(AttentionGpuCalls, ADryCallTakesTheSameMemory) {
  for (const AttentionCase& c : {GpuCase({4100, 8, 1, 4, 2, 128}, AttentionWindow::Ksa(16)),
                                 TextOnly(GpuCase({2050, 8, 1, 4, 2, 64, 2}, AttentionWindow::Full())),
                                 OfLatents(GpuCase({2050, 8, 1, 4, 4, 192}, AttentionWindow::Ksa(16))),
                                 OfLatents(TextOnly(GpuCase({2050, 8, 1, 4, 4, 192}, AttentionWindow::Full()))),
                                 GpuCase({1033, 8, 1, 2, 2, 80}, AttentionWindow::Ksa(16))}) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      Stream dry = stream();
      dry.dry = true;
      ImaginarySlabs imaginary(dry.device);
      GpuSlabs real(dry.device.ordinal);
      EXPECT_EQ(Extent(c, dtype, dry, imaginary), Extent(c, dtype, stream(), real)) << c.Describe();
    }
  }
}

// What a build without CUDA plans is what this one takes on sm_90a with cuDNN: a forward and a backward call each.
TEST_F(AttentionGpuCalls, ABuildWithoutCudaPlansTheSameMemory) {
  if (!AttentionPathIsBuilt(AttentionPath::kCudnn) ||
      !cuda_attention::wgmma::Supports(DType::kBF16, {128, 128}, device().device())) {
    GTEST_SKIP() << "planned for sm_90a and cuDNN";
  }
  const auto peak = [](const Stream& stream, const auto& call) {
    ImaginarySlabs slabs(stream.device);
    ArenaAllocator arena(slabs);
    call(arena);
    return arena.use().peak;
  };
  for (const AttentionCase& c : {GpuCase({4100, 8, 1, 4, 2, 128}, AttentionWindow::Ksa(16)),
                                 TextOnly(GpuCase({2050, 8, 1, 4, 2, 64, 2}, AttentionWindow::Full())),
                                 GpuCase({2050, 8, 1, 4, 2, 128}, AttentionWindow::Full()),
                                 OfLatents(GpuCase({2050, 8, 1, 4, 4, 192}, AttentionWindow::Ksa(16))),
                                 OfLatents(TextOnly(GpuCase({2050, 8, 1, 4, 4, 192}, AttentionWindow::Full()))),
                                 GpuCase({1033, 8, 1, 2, 2, 80}, AttentionWindow::Ksa(16))}) {
    AttentionTensors t(c, DType::kBF16, host());
    for (const bool deterministic : {true, false}) {
      Stream dry = stream();
      dry.dry = true;
      dry.deterministic = deterministic;
      const AttentionForwardArgs forward = {t.q, t.k, t.v, t.out, t.lse, c.Layout(), c.window};
      const AttentionBackwardArgs backward = {t.q, t.k, t.v, t.out, t.lse, t.out, t.q, t.k, t.v, c.Layout(), c.window};
      EXPECT_EQ(peak(dry, [&](Allocator& a) { dry_attention::Forward(forward, a, dry); }),
                peak(dry, [&](Allocator& a) { cuda_attention::Forward(forward, a, dry); }))
          << c.Describe();
      EXPECT_EQ(peak(dry, [&](Allocator& a) { dry_attention::Backward(backward, a, dry); }),
                peak(dry, [&](Allocator& a) { cuda_attention::Backward(backward, a, dry); }))
          << c.Describe();
    }
  }
}

TEST_F(AttentionGpuCalls, APathThatCannotDoTheCallSaysWhy) {
  const AttentionCase c = GpuCase({20, 8, 1, 2, 1, 64}, AttentionWindow::Ksa(1));
  EXPECT_NE(Refusal(c, DType::kF64, AttentionPath::kAuto).find("takes fp32 and bf16, not fp64"), std::string::npos);
  EXPECT_NE(Refusal(c, DType::kF32, AttentionPath::kMma).find("cannot run on path 'mma'"), std::string::npos);
  EXPECT_NE(Refusal(c, DType::kF32, AttentionPath::kWgmma).find("cannot run on path 'wgmma'"), std::string::npos);
  EXPECT_NE(Refusal(c, DType::kBF16, AttentionPath::kCudnn).find("cannot run on path 'cudnn'"), std::string::npos);
  EXPECT_EQ(Refusal(c, DType::kF32, AttentionPath::kAuto), "");
}

}  // namespace
}  // namespace ksa::testing
