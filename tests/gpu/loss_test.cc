// The cross-entropy on the GPU against the one on the CPU.
#include <cmath>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/core/arena.h"
#include "kernels/loss/linear_cross_entropy.h"
#include "kernels/loss/linear_cross_entropy_scratch.h"
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
  const int64_t chunk = CrossEntropyChunk(1000, kVocabulary);
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

// One part of `parts` of the problem's vocabulary, floor split, in memory of where it runs.
struct Part {
  int64_t first = 0;  // ids [first, last)
  int64_t last = 0;
  Results results;
};

// The parts run one after the other, twice: the first time each leaves its statistics on the host, the second time it
// finds all of them. One chunk of rows.
class GpuVocabularyShardTest : public GpuLossTest {
 protected:
  std::vector<Part> RunParts(const Problem& p, int parts, bool backward) {
    std::vector<Tensor> known(static_cast<size_t>(parts));
    std::vector<Part> all(static_cast<size_t>(parts));
    for (const bool complete : {false, true}) {
      for (int i = 0; i < parts; ++i) {
        const auto gather = [&](const TensorView& stats) {
          ASSERT_EQ(stats.shape, Shape({parts, p.x.rows(), 3}));
          ASSERT_EQ(stats.dtype, DType::kF32);
          if (!complete) {
            known[static_cast<size_t>(i)] = ToCpu(stats.Rows(i, 1));
            return;
          }
          testing::ExpectSameBits(ToCpu(stats.Rows(i, 1)), known[static_cast<size_t>(i)], "statistics");
          for (int other = 0; other < parts; ++other) {
            if (other != i) {
              CopyFromHost(known[static_cast<size_t>(other)], stats.Rows(other, 1), stream());
              Synchronize(stream());
            }
          }
        };
        Part& part = all[static_cast<size_t>(i)];
        const int64_t v = p.weight.rows();
        part.first = i * v / parts;
        part.last = (i + 1) * v / parts;
        part.results = RunPart(
            p, part, {.first_id = part.first, .vocab = v, .part = i, .parts = parts, .gather_stats = gather}, backward);
      }
    }
    return all;
  }

  // Results on the host.
  Results RunPart(const Problem& p, const Part& part, const VocabularyShard& shard, bool backward) {
    const int64_t v = part.last - part.first;
    const Problem moved{ToGpu(p.x),
                        ToGpu(p.weight.view().Rows(part.first, v)),
                        ToGpu(p.targets),
                        ToGpu(p.dweight.view().Rows(part.first, v))};
    const Tensor row_loss = Tensor::Empty({p.x.rows()}, DType::kF32, device());
    const Tensor loss_sum = ToGpu(One());
    const Tensor dx = Tensor::Empty(p.x.shape(), p.x.dtype(), device());
    LinearCrossEntropy({.x = moved.x,
                        .weight = moved.weight,
                        .targets = moved.targets,
                        .row_loss = row_loss,
                        .loss_sum = loss_sum,
                        .dx = backward ? dx.view() : TensorView{},
                        .dweight = backward ? moved.dweight.view() : TensorView{},
                        .grad_scale = kGradScale,
                        .shard = shard,
                        .allocator = &device()},
                       stream());
    return {ToCpu(row_loss), ToCpu(loss_sum), ToCpu(dx), ToCpu(moved.dweight)};
  }

  // What the parts' shares of dx add up to: as fp64.
  Tensor SumOfDx(const std::vector<Part>& parts) {
    Tensor sum = Cast(parts[0].results.dx, DType::kF64);
    for (size_t i = 1; i < parts.size(); ++i) {
      Axpby(1.0, Cast(parts[i].results.dx, DType::kF64), 1.0, sum, {});
    }
    return sum;
  }

  void CompareParts(const Sizes& s, DType dtype, int parts, bool backward) {
    SCOPED_TRACE(fmt::format("{} rows of {}, vocabulary {} in {} parts, {}", s.n, s.d, s.v, parts, NameOf(dtype)));
    const Problem p = MakeProblem(s, dtype);
    const Results exact = OnCpu(p, DType::kF64, backward, true);
    const Results plain = OnCpu(p, dtype, backward, true);
    const std::vector<Part> all = RunParts(p, parts, backward);
    ExpectAsAccurate(all[0].results.row_loss, plain.row_loss, exact.row_loss, "row_loss", 4.0);
    const double want = exact.loss_sum.As<double>()[0];
    EXPECT_NEAR(all[0].results.loss_sum.As<double>()[0], want, 1e-6 * (1.0 + want)) << "loss_sum";
    for (const Part& part : all) {
      testing::ExpectSameBits(part.results.row_loss, all[0].results.row_loss, "row_loss of another part");
      testing::ExpectSameBits(part.results.loss_sum, all[0].results.loss_sum, "loss_sum of another part");
      if (backward) {
        const int64_t v = part.last - part.first;
        ExpectAsAccurate(part.results.dweight,
                         plain.dweight.view().Rows(part.first, v),
                         exact.dweight.view().Rows(part.first, v),
                         "dweight",
                         4.0);
      }
    }
    if (backward) {
      // Each share is rounded to the type of dx by itself.
      const Tensor sum = Cast(SumOfDx(all), dtype);
      ExpectAsAccurate(sum, plain.dx, exact.dx, "the sum of dx", 1.0 + parts);
    }
  }
};

TEST_F(GpuVocabularyShardTest, AgreesWithTheWholeOnTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int parts : {2, 3, 6}) {
      CompareParts({33, 16, 97}, dtype, parts, true);
      CompareParts({5, 8, 24 * parts}, dtype, parts, true);
    }
    CompareParts({113, 24, 1033}, dtype, 2, true);
    CompareParts({7, 8, 30001}, dtype, 3, true);
    CompareParts({9, 8, 151936}, dtype, 2, true);
    CompareParts({33, 16, 97}, dtype, 3, false);
  }
}

TEST_F(GpuVocabularyShardTest, OnlyTargetsOutsideOfTheWholeGiveNan) {
  const Problem p = MakeProblem({5, 16, 113}, DType::kBF16);
  p.targets.As<int32_t>()[1] = 113;
  for (const Part& part : RunParts(p, 2, true)) {
    EXPECT_TRUE(std::isnan(part.results.loss_sum.As<double>()[0]));
    for (int64_t r = 0; r < 5; ++r) {
      EXPECT_EQ(std::isnan(testing::ElementAt(part.results.row_loss, r)), r == 1);
      EXPECT_EQ(std::isnan(testing::ElementAt(part.results.dx, 16 * r)), r == 1);
    }
  }
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

TEST(GpuLossDryTest, PartsAskForStatisticsWithoutAGpu) {
  const Stream dry{.device = {DeviceKind::kCuda, 0}, .dry = true};
  ImaginarySlabs slabs(dry.device);
  ArenaAllocator arena(slabs);
  const Tensor x = Tensor::Empty({20000, 64}, DType::kBF16, arena);
  const Tensor weight = Tensor::Empty({75968, 64}, DType::kBF16, arena);
  const Tensor targets = Tensor::Empty({20000}, DType::kI32, arena);
  const Tensor loss = Tensor::Empty({1}, DType::kF64, arena);
  const Tensor row_loss = Tensor::Empty({20000}, DType::kF32, arena);
  const Tensor dweight = Tensor::Empty(weight.shape(), DType::kF32, arena);
  const int64_t before = arena.use().current;
  arena.ResetPeak();
  int64_t asked = 0;  // rows
  LinearCrossEntropy({.x = x,
                      .weight = weight,
                      .targets = targets,
                      .row_loss = row_loss,
                      .loss_sum = loss,
                      .dx = x,
                      .dweight = dweight,
                      .shard = {.vocab = 151936,
                                .parts = 2,
                                .gather_stats =
                                    [&](const TensorView& stats) {
                                      EXPECT_EQ(stats.shape[0], 2);
                                      asked += stats.shape[1];
                                    }},
                      .allocator = &arena},
                     dry);
  EXPECT_EQ(asked, 20000);
  EXPECT_EQ(arena.use().current, before);
  const int64_t chunk = CrossEntropyChunk(20000, 75968);
  EXPECT_EQ(arena.use().peak - before, chunk * 75968 * 6 + chunk * 2 * 3 * 4);
}

}  // namespace
}  // namespace ksa
