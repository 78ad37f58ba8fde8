// cuDNN's part of full causal layers, called by itself, against the CPU. Where the build has no cuDNN, skipped.
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/attention/attention.h"
#include "kernels/attention/cuda_paths.h"
#include "kernels/core/arena.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using testing::ExpectAsAccurate;
using testing::Normal;

struct Case {
  int32_t sequences;
  int32_t tokens;
  int64_t heads;
  int64_t groups;
  int64_t head_dim;
  int32_t live_chunks = 0;  // of chunks of 8 with one summary each: rows behind the text, which are not touched
};

constexpr Case kCases[] = {
    {1, 128, 1, 1, 64}, {2, 200, 3, 3, 128}, {1, 1023, 4, 2, 64}, {1, 1033, 5, 1, 128}, {2, 264, 4, 4, 128, 3}};

struct Forward {
  Tensor q, k, v, out, lse;
};

struct Backward {
  Tensor dout, dq, dk, dv;
};

class GpuCudnnTest : public testing::GpuTest {
 protected:
  static SummaryLayout LayoutOf(const Case& c) {
    SummaryLayout layout;
    layout.sequences = c.sequences;
    layout.text_tokens = c.tokens;
    layout.chunk_size = 8;
    layout.summary_tokens = 1;
    layout.live_chunks = c.live_chunks;
    return layout;
  }

  Forward Inputs(const Case& c) {
    const int64_t rows = LayoutOf(c).rows();
    return {.q = Normal("q", {rows, c.heads, c.head_dim}, DType::kBF16, host()),
            .k = Normal("k", {rows, c.groups, c.head_dim}, DType::kBF16, host()),
            .v = Normal("v", {rows, c.groups, c.head_dim}, DType::kBF16, host())};
  }

  template <typename Args>
  static Args MakeArgs(const Case& c, const Forward& x, Allocator& memory) {
    Args args;
    args.q = x.q;
    args.k = x.k;
    args.v = x.v;
    args.out = x.out;
    args.lse = x.lse;
    args.layout = LayoutOf(c);
    args.allocator = &memory;
    return args;
  }

  static void Allocate(Forward& x, DType dtype, Allocator& memory) {
    x.out = Tensor::Empty(x.q.shape(), dtype, memory);
    x.lse = Tensor::Empty({x.q.rows(), x.q.shape()[1]}, AccumulationType(dtype), memory);
  }

  // What the CPU says in this type, of the text alone.
  Forward OnCpu(const Case& c, const Forward& inputs, DType dtype) {
    const int64_t text = LayoutOf(c).text_rows();
    Forward x{.q = Cast(inputs.q.Rows(0, text), dtype),
              .k = Cast(inputs.k.Rows(0, text), dtype),
              .v = Cast(inputs.v.Rows(0, text), dtype)};
    Allocate(x, dtype, host());
    AttentionForward(MakeArgs<AttentionForwardArgs>(c, x, host()), {.threads = 4});
    return x;
  }

  Backward OnCpu(const Case& c, const Forward& x, const Tensor& dout) {
    const DType dtype = x.q.dtype();
    Backward y{Cast(dout.Rows(0, x.q.rows()), dtype),
               Tensor::Empty(x.q.shape(), dtype, host()),
               Tensor::Empty(x.k.shape(), dtype, host()),
               Tensor::Empty(x.k.shape(), dtype, host())};
    AttentionBackward(Join(MakeArgs<AttentionBackwardArgs>(c, x, host()), y), {.threads = 4});
    return y;
  }

  static AttentionBackwardArgs Join(AttentionBackwardArgs args, const Backward& y) {
    args.dout = y.dout;
    args.dq = y.dq;
    args.dk = y.dk;
    args.dv = y.dv;
    return args;
  }

  Tensor Text(const Case& c, const Tensor& x) { return ToCpu(x).Rows(0, LayoutOf(c).text_rows()); }
};

TEST_F(GpuCudnnTest, AgreesWithTheCpu) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(
        fmt::format("{} x {} tokens, heads {}/{} of {}", c.sequences, c.tokens, c.heads, c.groups, c.head_dim));
    const Forward inputs = Inputs(c);
    Forward x{.q = ToGpu(inputs.q), .k = ToGpu(inputs.k), .v = ToGpu(inputs.v)};
    Allocate(x, DType::kBF16, device());
    const auto forward = MakeArgs<AttentionForwardArgs>(c, x, device());
    if (!cuda_attention::cudnn::Supports(forward)) {
      GTEST_SKIP() << "no cuDNN in this build";
    }
    EXPECT_EQ(cuda_attention::cudnn::ForwardText(forward, device(), stream()), "");
    const Forward exact = OnCpu(c, inputs, DType::kF64);
    const Forward plain = OnCpu(c, inputs, DType::kBF16);
    ExpectAsAccurate(Text(c, x.out), plain.out, exact.out, "out");
    // Scores of a few units, rounded to fp32 a few times; cuDNN computes exponentials in base 2.
    ExpectAsAccurate(Text(c, x.lse), plain.lse, exact.lse, "lse", 8.0);

    const Tensor dout = Normal("dout", inputs.q.shape(), DType::kBF16, host());
    const Backward exact_grads = OnCpu(c, exact, dout);
    const Backward plain_grads = OnCpu(c, plain, dout);
    for (const bool deterministic : {true, false}) {
      SCOPED_TRACE(deterministic ? "deterministic" : "default");
      const auto run = [&]() -> std::vector<Tensor> {
        const Backward y{ToGpu(dout),
                         Tensor::Empty(x.q.shape(), DType::kBF16, device()),
                         Tensor::Empty(x.k.shape(), DType::kBF16, device()),
                         Tensor::Empty(x.k.shape(), DType::kBF16, device())};
        const AttentionBackwardArgs args = Join(MakeArgs<AttentionBackwardArgs>(c, x, device()), y);
        EXPECT_TRUE(cuda_attention::cudnn::Supports(args, deterministic));
        EXPECT_EQ(cuda_attention::cudnn::BackwardText(args, device(), deterministic, stream()), "");
        return {y.dq, y.dk, y.dv};
      };
      const std::vector<Tensor> grads = run();
      ExpectAsAccurate(Text(c, grads[0]), plain_grads.dq, exact_grads.dq, "dq");
      ExpectAsAccurate(Text(c, grads[1]), plain_grads.dk, exact_grads.dk, "dk");
      ExpectAsAccurate(Text(c, grads[2]), plain_grads.dv, exact_grads.dv, "dv");
      if (deterministic) {
        ExpectRepeats(run);
      }
    }
  }
}

// A call that cuDNN would have taken, were it not to refuse: our own kernels do it, with a word about it, once.
TEST_F(GpuCudnnTest, WhatItRefusesIsDoneByOurs) {
  const Case c{1, 200, 4, 2, 64};
  const Forward inputs = Inputs(c);
  Forward x{.q = ToGpu(inputs.q), .k = ToGpu(inputs.k), .v = ToGpu(inputs.v)};
  Allocate(x, DType::kBF16, device());
  const auto forward = MakeArgs<AttentionForwardArgs>(c, x, device());
  if (!cuda_attention::cudnn::Supports(forward)) {
    GTEST_SKIP() << "no cuDNN in this build";
  }
  Stream any_order = stream();
  any_order.deterministic = false;
  cuda_attention::cudnn::RefuseNewPlans(any_order);
  ::testing::internal::CaptureStderr();
  AttentionForward(forward, any_order);
  AttentionForward(forward, any_order);
  const Tensor dout = Normal("dout", inputs.q.shape(), DType::kBF16, host());
  const Backward y{ToGpu(dout),
                   Tensor::Empty(x.q.shape(), DType::kBF16, device()),
                   Tensor::Empty(x.k.shape(), DType::kBF16, device()),
                   Tensor::Empty(x.k.shape(), DType::kBF16, device())};
  const AttentionBackwardArgs backward = Join(MakeArgs<AttentionBackwardArgs>(c, x, device()), y);
  AttentionBackward(backward, any_order);
  Synchronize(stream());
  const std::string said = ::testing::internal::GetCapturedStderr();
  for (const char* pass : {"forward", "backward"}) {
    const std::string begin = fmt::format("ksa: warning: cuDNN refuses the {} pass", pass);
    const size_t at = said.find(begin);
    ASSERT_NE(at, std::string::npos) << said;
    EXPECT_EQ(said.find(begin, at + 1), std::string::npos) << said;
  }
  const Forward exact = OnCpu(c, inputs, DType::kF64);
  const Forward plain = OnCpu(c, inputs, DType::kBF16);
  ExpectAsAccurate(Text(c, x.out), plain.out, exact.out, "out");
  const Backward exact_grads = OnCpu(c, exact, dout);
  const Backward plain_grads = OnCpu(c, plain, dout);
  ExpectAsAccurate(Text(c, y.dq), plain_grads.dq, exact_grads.dq, "dq");
  ExpectAsAccurate(Text(c, y.dk), plain_grads.dk, exact_grads.dk, "dk");
  ExpectAsAccurate(Text(c, y.dv), plain_grads.dv, exact_grads.dv, "dv");
  // Who asks for cuDNN is told.
  AttentionForwardArgs named = forward;
  named.path = AttentionPath::kCudnn;
  EXPECT_THROW(AttentionForward(named, any_order), Error);
}

// Text that is generated has a length a token.
TEST_F(GpuCudnnTest, PlansAreBounded) {
  std::vector<Tensor> first;
  for (int pass = 0; pass < 2; ++pass) {
    for (int32_t i = 0; i < static_cast<int32_t>(cuda_attention::cudnn::kMostPlans) + 3; ++i) {
      const Case c{1, 128 + 8 * i, 2, 1, 64};
      const Forward inputs = Inputs(c);
      Forward x{.q = ToGpu(inputs.q), .k = ToGpu(inputs.k), .v = ToGpu(inputs.v)};
      Allocate(x, DType::kBF16, device());
      const auto forward = MakeArgs<AttentionForwardArgs>(c, x, device());
      if (!cuda_attention::cudnn::Supports(forward)) {
        GTEST_SKIP() << "no cuDNN in this build";
      }
      ASSERT_EQ(cuda_attention::cudnn::ForwardText(forward, device(), stream()), "");
      if (pass == 0) {
        first.push_back(ToCpu(x.out));
      } else {
        testing::ExpectSameBits(ToCpu(x.out), first[static_cast<size_t>(i)], "a plan that was made again");
      }
    }
    EXPECT_EQ(cuda_attention::cudnn::PlansOf(stream()), cuda_attention::cudnn::kMostPlans);
  }
}

TEST(CudnnSupportTest, TakesFullCausalLayersAlone) {
  AttentionForwardArgs args;
  args.layout.sequences = 1;
  args.layout.text_tokens = 1024;
  args.layout.chunk_size = 8;
  args.q.dtype = DType::kBF16;
  args.q.shape = {1024, 4, 128};
  args.k.shape = args.v.shape = {1024, 2, 128};
  if (!cuda_attention::cudnn::Supports(args)) {
    GTEST_SKIP() << "no cuDNN in this build";
  }
  const auto supports = [](AttentionForwardArgs other) { return cuda_attention::cudnn::Supports(other); };
  AttentionForwardArgs other = args;
  other.window = AttentionWindow::SlidingTokens(1023);
  EXPECT_FALSE(supports(other));
  other.window = AttentionWindow::SlidingTokens(1024);
  EXPECT_TRUE(supports(other));
  other.window = AttentionWindow::Ksa(126);
  EXPECT_FALSE(supports(other));
  other.window = AttentionWindow::Ksa(127);
  EXPECT_TRUE(supports(other));
  const int32_t first_chunk = 0;
  other.layout.document_first_chunk = &first_chunk;
  EXPECT_FALSE(supports(other));
  other = args;
  other.q.dtype = DType::kF32;
  EXPECT_FALSE(supports(other));
  other = args;
  other.q.shape = {1024, 4, 96};
  EXPECT_FALSE(supports(other));
  other = args;
  other.window = AttentionWindow::Hca(127, true);
  EXPECT_FALSE(supports(other)) << "entries are seen in the window too";
  other = args;
  other.scale = 0.1;
  EXPECT_FALSE(supports(other));
  other = args;
  other.q.shape = {1024, 4, 192};
  EXPECT_TRUE(supports(other)) << "keys of 192, values of 128";
  other.v.shape = {1024, 2, 64};
  EXPECT_FALSE(supports(other));
}

// Memory for dS of all pairs of a head: 2 GiB at 32K tokens.
TEST(CudnnSupportTest, RefusesTheDeterministicBackwardOfLongSequences) {
  AttentionBackwardArgs args;
  args.layout.sequences = 1;
  args.layout.chunk_size = 8;
  args.q.dtype = DType::kBF16;
  args.q.shape = {1, 16, 128};
  args.k.shape = args.v.shape = {1, 16, 128};
  args.layout.text_tokens = 32768;
  if (!cuda_attention::cudnn::Supports(args, false)) {
    GTEST_SKIP() << "no cuDNN in this build";
  }
  EXPECT_TRUE(cuda_attention::cudnn::Supports(args, true));
  args.layout.text_tokens = 65536;
  EXPECT_FALSE(cuda_attention::cudnn::Supports(args, true));
  EXPECT_TRUE(cuda_attention::cudnn::Supports(args, false));
}

// Without a GPU nobody asks cuDNN; the bound that is taken instead is the largest tensor of its workspace and a little.
TEST(CudnnDryTest, TakesItsWorkspaceWithoutAGpu) {
  const Stream dry{.device = {DeviceKind::kCuda, 0}, .dry = true};
  ImaginarySlabs slabs(dry.device);
  ArenaAllocator arena(slabs);
  const Tensor rows = Tensor::Empty({8192, 16, 128}, DType::kBF16, arena);
  const Tensor lse = Tensor::Empty({8192, 16}, DType::kF32, arena);
  AttentionBackwardArgs args{
      .q = rows, .k = rows, .v = rows, .out = rows, .lse = lse, .dout = rows, .dq = rows, .dk = rows, .dv = rows};
  args.layout.text_tokens = 8192;
  args.layout.chunk_size = 8;
  if (!cuda_attention::cudnn::Supports(args, true)) {
    GTEST_SKIP() << "no cuDNN in this build";
  }
  const int64_t before = arena.use().current;
  for (const bool deterministic : {false, true}) {
    arena.ResetPeak();
    EXPECT_EQ(cuda_attention::cudnn::BackwardText(args, arena, deterministic, dry), "");
    const int64_t taken = arena.use().peak - before;
    const int64_t largest = deterministic ? int64_t{16} * 8192 * 8192 * 2 : int64_t{16} * 8192 * 128 * 4;
    EXPECT_GE(taken, largest);
    EXPECT_LE(taken, largest + (int64_t{8} << 20));
  }
  EXPECT_EQ(arena.use().current, before);
}

}  // namespace
}  // namespace ksa
