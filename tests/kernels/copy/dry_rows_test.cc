// Row-wise operations on a dry stream, with memory at addresses that do not exist: what planning memory does. Needs no
// GPU.
#include <gtest/gtest.h>

#include "kernels/activation/swiglu.h"
#include "kernels/copy/elementwise.h"
#include "kernels/core/arena.h"
#include "kernels/embedding/embedding.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/clip_scale.h"
#include "kernels/rope/qk_norm_rope.h"

namespace ksa {
namespace {

class DryRows : public ::testing::Test {
 protected:
  Tensor Make(const Shape& shape, DType dtype) { return Tensor::Empty(shape, dtype, memory_); }

  // The most that `run` takes beside what is there already; it must give all of it back.
  template <typename Run>
  int64_t Scratch(const Run& run) {
    const int64_t before = memory_.use().current;
    memory_.ResetPeak();
    run();
    EXPECT_EQ(memory_.use().current, before);
    return memory_.use().peak - before;
  }

  const Stream stream_ = {.device = {DeviceKind::kCuda, 0}, .dry = true};
  ImaginarySlabs slabs_{stream_.device};
  ArenaAllocator memory_{slabs_};
};

constexpr SummaryLayout kLayout = {
    .sequences = 1, .text_tokens = 1033, .chunk_size = 8, .summary_tokens = 1, .live_chunks = 121};

TEST_F(DryRows, ElementwiseAndOptimizer) {
  const Tensor x = Make({100003}, DType::kF32);
  const Tensor y = Make({100003}, DType::kF32);
  const Tensor half = Make({100003}, DType::kBF16);
  const Tensor out = Make({2}, DType::kF64);
  EXPECT_EQ(Scratch([&] {
              Copy(x, half, stream_);
              Zero(x, stream_);
              Add(x, y, x, stream_);
              Axpby(0.5, x, 2.0, y, stream_);
              ClipScale({.stats = out, .scale = out.Rows(0, 1), .clip = 1.0}, stream_);
              AdamW({.weight = x, .grad = y, .exp_avg = x, .exp_avg_sq = y, .compute = half}, stream_);
            }),
            0);
  EXPECT_EQ(Scratch([&] { SumOfSquares(x, out.Rows(0, 1), stream_, &memory_); }), 512);
}

TEST_F(DryRows, NormRopeAndActivation) {
  const int64_t n = kLayout.rows();
  const Tensor x = Make({n, 2, 64}, DType::kBF16);
  const TensorView rows = x.view().Reshape({n, 128});
  const Tensor weight = Make({128}, DType::kBF16);
  const Tensor dweight = Make({128}, DType::kF32);
  const Tensor rstd = Make({n, 2}, DType::kF32);
  const TensorView rstd_rows = rstd.view().Reshape({2 * n}).Rows(0, n);
  const Tensor table = Make({1033, 32, 2}, DType::kF32);
  EXPECT_EQ(Scratch([&] {
              RmsNormForward({.x = rows, .weight = weight, .y = rows, .rstd = rstd_rows}, stream_);
              SwigluForward({.gate = rows, .up = rows, .y = rows}, stream_);
              SwigluBackward({.dy = rows, .gate = rows, .up = rows, .dgate = rows, .dup = rows}, stream_);
              FillRopeTable(table, 1e4, stream_);
              QkNormRopeForward({.x = x, .table = table, .y = x, .layout = kLayout}, stream_);
              QkNormRopeBackward({.dy = x, .table = table, .dx = x, .layout = kLayout}, stream_);
            }),
            0);
  RmsNormBackwardArgs norm = {
      .dy = rows, .x = rows, .rstd = rstd_rows, .weight = weight, .dx = rows, .dweight = dweight};
  EXPECT_THROW(RmsNormBackward(norm, stream_), Error);  // no allocator
  norm.allocator = &memory_;
  EXPECT_GT(Scratch([&] { RmsNormBackward(norm, stream_); }), 0);
  EXPECT_GT(Scratch([&] {
              QkNormRopeBackward({.dy = x,
                                  .x = x,
                                  .rstd = rstd,
                                  .weight = weight.Rows(0, 64),
                                  .table = table,
                                  .dx = x,
                                  .dweight = dweight.Rows(0, 64),
                                  .layout = kLayout,
                                  .allocator = &memory_},
                                 stream_);
            }),
            0);
}

TEST_F(DryRows, Embedding) {
  const Tensor ids = Make({1033}, DType::kI32);
  const Tensor table = Make({300, 64}, DType::kBF16);
  const Tensor dtable = Make({300, 64}, DType::kF32);
  const Tensor y = Make({kLayout.rows(), 64}, DType::kBF16);
  EXPECT_EQ(Scratch([&] {
              EmbeddingForward(
                  {.ids = ids, .table = table, .summary_table = table.Rows(0, 1), .y = y, .layout = kLayout}, stream_);
            }),
            0);
  EXPECT_GT(Scratch([&] {
              EmbeddingBackward({.ids = ids,
                                 .dy = y,
                                 .dtable = dtable,
                                 .dsummary_table = dtable.Rows(0, 1),
                                 .layout = kLayout,
                                 .allocator = &memory_},
                                stream_);
            }),
            1033 * 16);
}

TEST_F(DryRows, DoublesAreRefused) {
  const Tensor x = Make({8, 8}, DType::kF64);
  EXPECT_THROW(Add(x, x, x, stream_), Error);
  EXPECT_THROW(SwigluForward({.gate = x, .up = x, .y = x}, stream_), Error);
  EXPECT_THROW(FillRopeTable(x.Reshape({8, 4, 2}), 1e4, stream_), Error);
}

}  // namespace
}  // namespace ksa
