// The cross-entropy on the GPU against the one on the CPU.
#include <cmath>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/core/arena.h"
#include "kernels/loss/linear_cross_entropy.h"
#include "kernels/loss/linear_cross_entropy_cuda.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using testing::ExpectAsAccurate;
using testing::Normal;

constexpr double kGradScale = 0.25;

struct Sizes {
  int64_t n;
  int64_t d;
  int64_t v;
};

// One element to a row of a cluster of blocks, rows that fill a block's memory, odd everything.
constexpr Sizes kSizes[] = {
    {1, 8, 1}, {1, 3, 7}, {5, 16, 113}, {113, 24, 1033}, {130, 64, 1032}, {7, 8, 30001}, {9, 8, 151936}};

struct Problem {
  Tensor x, weight, targets, dweight;
};

struct Results {
  Tensor row_loss, loss_sum, dx, dweight;
};

class GpuLossTest : public testing::GpuTest {
 protected:
  Problem MakeProblem(const Sizes& s, DType dtype) {
    Problem p{Normal("x", {s.n, s.d}, dtype, host()),
              Normal("weight", {s.v, s.d}, dtype, host()),
              testing::Integers("targets", {s.n}, 0, static_cast<int32_t>(s.v), host()),
              Normal("dweight", {s.v, s.d}, AccumulationType(dtype), host())};
    for (int64_t r = 2; r < s.n; r += 5) {
      p.targets.As<int32_t>()[r] = -1;
    }
    if (s.n > 4) {
      p.targets.As<int32_t>()[3] = static_cast<int32_t>(s.v - 1);
    }
    return p;
  }

  // All tensors of `p` lie in `memory` already. Starts with a loss of 1, which is added to.
  static Results Run(
      const Problem& p, bool backward, bool accumulate, const Tensor& one, Allocator& memory, const Stream& where) {
    const int64_t n = p.x.rows();
    Results results;
    results.row_loss = Tensor::Empty({n}, AccumulationType(p.x.dtype()), memory);
    results.loss_sum = one;
    if (backward) {
      results.dx = Tensor::Empty(p.x.shape(), p.x.dtype(), memory);
      results.dweight = p.dweight;
    }
    LinearCrossEntropy({.x = p.x,
                        .weight = p.weight,
                        .targets = p.targets,
                        .row_loss = results.row_loss,
                        .loss_sum = results.loss_sum,
                        .dx = results.dx,
                        .dweight = results.dweight,
                        .accumulate = accumulate,
                        .grad_scale = kGradScale,
                        .allocator = &memory},
                       where);
    return results;
  }

  Tensor One() {
    Tensor one = Tensor::Empty({1}, DType::kF64, host());
    one.As<double>()[0] = 1.0;
    return one;
  }

  Results OnCpu(const Problem& p, DType dtype, bool backward, bool accumulate) {
    const Problem cast{Cast(p.x, dtype), Cast(p.weight, dtype), p.targets, Cast(p.dweight, AccumulationType(dtype))};
    return Run(cast, backward, accumulate, One(), host(), {});
  }

  Problem OnDevice(const Problem& p) { return {ToGpu(p.x), ToGpu(p.weight), ToGpu(p.targets), ToGpu(p.dweight)}; }

  Results OnGpu(const Problem& p, bool backward, bool accumulate) {
    const Problem moved = OnDevice(p);
    return Run(moved, backward, accumulate, ToGpu(One()), device(), stream());
  }

  void Compare(const Sizes& s, DType dtype, bool backward, bool accumulate) {
    SCOPED_TRACE(fmt::format("{} rows of {}, vocabulary {}, {}{}{}",
                             s.n,
                             s.d,
                             s.v,
                             NameOf(dtype),
                             backward ? ", backward" : "",
                             accumulate ? ", accumulate" : ""));
    const Problem p = MakeProblem(s, dtype);
    const Results exact = OnCpu(p, DType::kF64, backward, accumulate);
    const Results plain = OnCpu(p, dtype, backward, accumulate);
    const Results actual = OnGpu(p, backward, accumulate);
    // Losses: logits of a few units, of which the loss is a difference, are rounded to fp32 several times.
    ExpectAsAccurate(ToCpu(actual.row_loss), plain.row_loss, exact.row_loss, "row_loss", 4.0);
    const double sum = ToCpu(actual.loss_sum).As<double>()[0];
    const double want = exact.loss_sum.As<double>()[0];
    EXPECT_NEAR(sum, want, 1e-6 * (1.0 + want)) << "loss_sum";
    if (backward) {
      ExpectAsAccurate(ToCpu(actual.dx), plain.dx, exact.dx, "dx");
      ExpectAsAccurate(ToCpu(actual.dweight), plain.dweight, exact.dweight, "dweight", 4.0);
    }
    ExpectRepeats([&]() -> std::vector<Tensor> {
      const Results again = OnGpu(p, backward, accumulate);
      return backward ? std::vector<Tensor>{again.row_loss, again.dx, again.dweight}
                      : std::vector<Tensor>{again.row_loss};
    });
  }
};

TEST_F(GpuLossTest, AgreesWithTheCpu) {
  for (const Sizes& sizes : kSizes) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Compare(sizes, dtype, true, true);
    }
  }
}

// Clusters that stay on the GPU take several rows each.
TEST_F(GpuLossTest, LongRows) {
  Compare({70, 8, 8196}, DType::kBF16, true, true);
  Compare({36, 8, 65548}, DType::kBF16, true, false);
}

TEST_F(GpuLossTest, OneLongRow) {
  Compare({1, 8, 8192}, DType::kBF16, true, false);
}

TEST_F(GpuLossTest, WritesTheWeightGradientWhenItDoesNotAccumulate) {
  Compare({113, 24, 1033}, DType::kBF16, true, false);
}

TEST_F(GpuLossTest, TheLossAlone) {
  Compare({113, 24, 1033}, DType::kBF16, false, true);
  Compare({9, 8, 151936}, DType::kF32, false, true);
}

TEST_F(GpuLossTest, NoRows) {
  const Problem p = MakeProblem({0, 8, 16}, DType::kBF16);
  const Results results = OnGpu(p, true, true);
  EXPECT_EQ(ToCpu(results.loss_sum).As<double>()[0], 1.0);
  testing::ExpectSameBits(ToCpu(results.dweight), p.dweight, "dweight");
}

// Rows that take more than one chunk: a row's loss does not depend on its chunk.
TEST_F(GpuLossTest, ChunksOfRows) {
  constexpr int64_t kVocabulary = 1200000;
  const int64_t chunk = cuda::ChunkRows(1000, kVocabulary);
  ASSERT_LT(chunk, 600);
  const Problem whole = MakeProblem({1000, 8, kVocabulary}, DType::kBF16);
  const Results results = OnGpu(whole, true, false);
  const Tensor losses = ToCpu(results.row_loss);
  const int64_t first = 1000 - 3;
  const Problem last{whole.x.Rows(first, 3), whole.weight, whole.targets.Rows(first, 3), whole.dweight};
  const Results exact = OnCpu(last, DType::kF64, true, false);
  const Results plain = OnCpu(last, DType::kBF16, true, false);
  ExpectAsAccurate(losses.Rows(first, 3), plain.row_loss, exact.row_loss, "losses of the last chunk", 4.0);
  ExpectAsAccurate(ToCpu(results.dx).Rows(first, 3), plain.dx, exact.dx, "dx of the last chunk");
}

TEST_F(GpuLossTest, ATargetOutsideTheVocabularyGivesNan) {
  const Problem p = MakeProblem({5, 16, 113}, DType::kBF16);
  p.targets.As<int32_t>()[1] = 113;
  const Results results = OnGpu(p, true, true);
  EXPECT_TRUE(std::isnan(testing::ElementAt(ToCpu(results.row_loss), 1)));
  EXPECT_TRUE(std::isnan(ToCpu(results.loss_sum).As<double>()[0]));
  EXPECT_TRUE(std::isnan(testing::ElementAt(ToCpu(results.dx), 16)));
  EXPECT_FALSE(std::isnan(testing::ElementAt(ToCpu(results.row_loss), 0)));
}

TEST_F(GpuLossTest, LongRowsWithATargetOutsideTheVocabulary) {
  const Problem rows = MakeProblem({40, 8, 8196}, DType::kBF16);
  rows.targets.As<int32_t>()[1] = 8196;
  const Results long_rows = OnGpu(rows, true, true);
  EXPECT_TRUE(std::isnan(testing::ElementAt(ToCpu(long_rows.row_loss), 1)));
  EXPECT_TRUE(std::isnan(testing::ElementAt(ToCpu(long_rows.dx), 8)));
  EXPECT_FALSE(std::isnan(testing::ElementAt(ToCpu(long_rows.row_loss), 17)));
}

TEST(GpuLossDryTest, TakesItsScratchWithoutAGpu) {
  const Stream dry{.device = {DeviceKind::kCuda, 0}, .dry = true};
  ImaginarySlabs slabs(dry.device);
  ArenaAllocator arena(slabs);
  const Tensor x = Tensor::Empty({8192, 64}, DType::kBF16, arena);
  const Tensor weight = Tensor::Empty({151936, 64}, DType::kBF16, arena);
  const Tensor targets = Tensor::Empty({8192}, DType::kI32, arena);
  const Tensor loss = Tensor::Empty({1}, DType::kF64, arena);
  const Tensor dweight = Tensor::Empty(weight.shape(), DType::kF32, arena);
  const int64_t before = arena.use().current;
  arena.ResetPeak();
  LinearCrossEntropy({.x = x,
                      .weight = weight,
                      .targets = targets,
                      .loss_sum = loss,
                      .dx = x,
                      .dweight = dweight,
                      .allocator = &arena},
                     dry);
  EXPECT_EQ(arena.use().current, before);
  EXPECT_EQ(arena.use().peak - before, int64_t{4096} * 151936 * 6 + 8192 * 4);
}

}  // namespace
}  // namespace ksa
