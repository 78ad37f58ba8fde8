// The cross-entropy of a vocabulary that is spread over parts, which are threads here.
#include <barrier>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/loss/linear_cross_entropy.h"
#include "tests/kernels/loss/loss_reference.h"
#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::BoundedValues;
using testing::GuardAllocator;
using testing::kGradScale;
using testing::LossProblem;
using testing::LossReference;

// An all-gather in place among threads: what is gathered lies in everybody's `views`.
class Exchange {
 public:
  explicit Exchange(int parts) : barrier_(parts), views_(static_cast<size_t>(parts)) {}

  void Gather(int part, const TensorView& stats) {
    views_[static_cast<size_t>(part)] = stats;
    barrier_.arrive_and_wait();
    const int64_t bytes = stats.bytes() / stats.rows();
    for (int64_t p = 0; p < stats.rows(); ++p) {
      if (p != part) {
        const TensorView& from = views_[static_cast<size_t>(p)];
        std::memcpy(static_cast<char*>(stats.data) + p * bytes,
                    static_cast<const char*>(from.data) + p * bytes,
                    static_cast<size_t>(bytes));
      }
    }
    barrier_.arrive_and_wait();
  }

 private:
  std::barrier<> barrier_;
  std::vector<TensorView> views_;
};

struct Part {
  int64_t first = 0;  // ids [first, last)
  int64_t last = 0;
  Tensor row_loss, loss_sum, dx, dweight;
  std::vector<Shape> gathered;  // shapes of the statistics, in the order of the calls
};

LinearCrossEntropyArgs ArgsOf(const LossProblem& p, const Part& part, bool backward, bool accumulate) {
  return {.x = p.x,
          .weight = p.weight.Rows(part.first, part.last - part.first),
          .targets = p.targets,
          .row_loss = part.row_loss,
          .loss_sum = part.loss_sum,
          .dx = backward ? part.dx.view() : TensorView{},
          .dweight = backward ? part.dweight.view() : TensorView{},
          .accumulate = accumulate,
          .grad_scale = kGradScale,
          .shard = {.first_id = part.first, .vocab = p.v},
          .allocator = &p.memory};
}

// Floor splits, as everywhere.
std::vector<Part> RunParts(const LossProblem& p, int parts, bool backward, bool accumulate, int64_t threads = 1) {
  Exchange exchange(parts);
  std::vector<Part> all(static_cast<size_t>(parts));
  std::vector<std::thread> running;
  for (int i = 0; i < parts; ++i) {
    Part& part = all[static_cast<size_t>(i)];
    part.first = i * p.v / parts;
    part.last = (i + 1) * p.v / parts;
    part.row_loss = testing::Clone(p.row_loss, p.memory);
    part.loss_sum = Tensor::Zeros({1}, DType::kF64, p.memory);
    part.dx = testing::Clone(p.dx, p.memory);
    part.dweight = testing::Clone(p.dweight.Rows(part.first, part.last - part.first), p.memory);
    running.emplace_back([&, i] {
      LinearCrossEntropyArgs args = ArgsOf(p, part, backward, accumulate);
      args.shard.part = i;
      args.shard.parts = parts;
      args.shard.gather_stats = [&](const TensorView& stats) {
        part.gathered.push_back(stats.shape);
        exchange.Gather(i, stats);
      };
      LinearCrossEntropy(args, {.threads = static_cast<int>(threads)});
    });
  }
  for (std::thread& thread : running) {
    thread.join();
  }
  return all;
}

void ExpectSameLossEverywhere(const std::vector<Part>& parts) {
  double sum = 0.0;
  for (int64_t r = 0; r < parts[0].row_loss.size(); ++r) {
    sum += testing::ElementAt(parts[0].row_loss, r);
  }
  for (const Part& part : parts) {
    testing::ExpectSameBits(part.row_loss, parts[0].row_loss, "row_loss");
    testing::ExpectSameBits(part.loss_sum, parts[0].loss_sum, "loss_sum");
    EXPECT_EQ(part.loss_sum.As<double>()[0], sum);
  }
}

void Check(const LossProblem& p, int parts, bool accumulate) {
  SCOPED_TRACE(fmt::format("n {} d {} v {} {}, {} parts", p.n, p.d, p.v, NameOf(p.dtype), parts));
  const LossReference reference(p);
  const auto d = p.d;
  const BoundedValues dweight = reference.Dweight(testing::Exact(p.dweight), accumulate);
  for (const bool backward : {false, true}) {
    const std::vector<Part> results = RunParts(p, parts, backward, accumulate);
    ExpectSameLossEverywhere(results);
    testing::ExpectWithinBound(results[0].row_loss, reference.losses(), "row_loss");
    for (const Part& part : results) {
      if (backward) {
        testing::ExpectWithinBound(
            part.dx, reference.Dx(static_cast<size_t>(part.first), static_cast<size_t>(part.last)), "dx");
        testing::ExpectWithinBound(
            part.dweight, {dweight.begin() + part.first * d, dweight.begin() + part.last * d}, "dweight");
      }
    }
  }
}

TEST(VocabularyShard, MatchesDefinition) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int parts : {2, 3, 6}) {
      GuardAllocator memory;
      Check(LossProblem(33, 16, 97, dtype, memory), parts, true);
      Check(LossProblem(3, 1, 6, dtype, memory), parts, false);
      Check(LossProblem(1, 7, 11, dtype, memory), parts, true);
    }
  }
}

// The statistics of other parts may be far away.
TEST(VocabularyShard, LargeLogitsDoNotOverflow) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    const LossProblem p(4, 3, 7, dtype, memory);
    for (int64_t i = 0; i < p.x.size(); ++i) {
      testing::SetElement(p.x, i, 1000.0 * testing::ElementAt(p.x, i));
    }
    Check(p, 3, false);
  }
}

// Parts of different sizes take the same chunks of rows: 8 MiB are 3 rows of 333341 doubles, and of 333340.
TEST(VocabularyShard, AllPartsTakeTheSameChunks) {
  GuardAllocator memory;
  const LossProblem p(5, 1, 2 * 333341 - 1, DType::kF64, memory);
  const std::vector<Part> parts = RunParts(p, 2, true, false);
  for (const Part& part : parts) {
    EXPECT_EQ(part.gathered, (std::vector<Shape>{{2, 3, 3}, {2, 2, 3}}));
  }
  ExpectSameLossEverywhere(parts);
  p.Run(true, false);
  EXPECT_LT(testing::RelativeDifference(testing::ToDouble(parts[1].row_loss), testing::ToDouble(p.row_loss)), 1e-13);
  std::vector<double> dx = testing::ToDouble(parts[0].dx);
  for (size_t i = 0; i < dx.size(); ++i) {
    dx[i] += testing::ToDouble(parts[1].dx)[i];
  }
  EXPECT_LT(testing::RelativeDifference(dx, testing::ToDouble(p.dx)), 1e-12);
}

TEST(VocabularyShard, WithoutTargetsOrRows) {
  GuardAllocator memory;
  const LossProblem p(9, 3, 5, DType::kF32, memory);
  std::fill_n(p.targets.As<int32_t>(), 9, -100);
  for (const Part& part : RunParts(p, 2, true, false)) {
    EXPECT_EQ(part.loss_sum.As<double>()[0], 0.0);
    for (const Tensor& x : {part.dx, part.dweight}) {
      for (const double value : testing::ToDouble(x)) {
        EXPECT_EQ(value, 0.0);
      }
    }
  }
  for (const Part& part : RunParts(LossProblem(0, 3, 5, DType::kF32, memory), 2, true, false)) {
    EXPECT_TRUE(part.gathered.empty());
    EXPECT_EQ(part.loss_sum.As<double>()[0], 0.0);
  }
}

TEST(VocabularyShard, NanReachesAllParts) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    const LossProblem p(4, 3, 40, dtype, memory);
    testing::SetElement(p.weight, 17 * 3 + 1, std::numeric_limits<double>::quiet_NaN());
    for (const Part& part : RunParts(p, 3, true, false)) {
      EXPECT_TRUE(std::isnan(part.loss_sum.As<double>()[0]));
    }
  }
}

// As for the whole vocabulary: one column in x makes the products exact.
TEST(VocabularyShard, ThreadsDoNotMatter) {
  GuardAllocator memory;
  const LossProblem p(151, 1, 1023, DType::kF32, memory);
  const std::vector<Part> one = RunParts(p, 2, true, false, 1);
  const std::vector<Part> four = RunParts(p, 2, true, false, 4);
  testing::ExpectSameBits(one[1].row_loss, four[1].row_loss, "row_loss");
  testing::ExpectSameBits(one[1].dx, four[1].dx, "dx");
}

TEST(VocabularyShard, RefusesWrongArguments) {
  GuardAllocator memory;
  const LossProblem p(4, 3, 5, DType::kF32, memory);
  Part half{.first = 2, .last = 5, .row_loss = p.row_loss, .loss_sum = p.loss_sum};
  LinearCrossEntropyArgs args = ArgsOf(p, half, false, false);
  EXPECT_THROW(LinearCrossEntropy(args, {}), Error);  // one part, but not the whole
  args.shard.parts = 2;
  args.shard.part = 1;
  EXPECT_THROW(LinearCrossEntropy(args, {}), Error);  // nobody to ask
  args.shard.gather_stats = [](const TensorView& stats) {
    std::memset(stats.data, 0, static_cast<size_t>(stats.bytes() / 2));
  };
  EXPECT_NO_THROW(LinearCrossEntropy(args, {}));
  args.shard.first_id = 3;
  EXPECT_THROW(LinearCrossEntropy(args, {}), Error);  // past the end
  args.shard.first_id = 2;
  args.shard.part = 2;
  EXPECT_THROW(LinearCrossEntropy(args, {}), Error);
  args.shard.part = 1;
  p.targets.As<int32_t>()[3] = 5;
  try {
    LinearCrossEntropy(args, {});
    FAIL() << "took target 5 of 5";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    EXPECT_STREQ(error.what(), "LinearCrossEntropy: target 5 at row 3, but the vocabulary has 5 entries");
  }
}

}  // namespace
}  // namespace ksa
