// Whole models on several context ranks, threads of this process, against one rank.
#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel/comm/threads.h"
#include "tests/model/ksa/model_cases.h"

namespace ksa {
namespace {

using testing::DocumentPlace;
using testing::FindCase;
using testing::ModelCase;
using testing::ModelCases;
using testing::ModelHarness;
using testing::Outcome;
using testing::RelativeDifference;
using testing::ToDouble;

// Cases that stand for all where one option more is tried.
constexpr const char* kFewCases[] = {"ksa, windows differ",
                                     "ksa, m 2, GQA, everything own",
                                     "hybrid, attend, everything own, m 2",
                                     "hybrid, bypass first",
                                     "documents, hybrid, m 2, everything own",
                                     "swa, sca, full",
                                     "short_conv, ksa, m 2, GQA, everything own",
                                     "hca, overlap, rope none, short_conv",
                                     "documents, hca, short_conv",
                                     "ksa of latents, everything own, m 2, annealed",
                                     "documents, latents, short_conv",
                                     "gdn, ksa, m 2, everything own",
                                     "documents, gdn, ksa and full"};

// Enough chunks for every slice, of two ranks more than windows are wide, and a short last one.
ModelCase LongEnough(ModelCase c, int ranks) {
  const int32_t k = c.config.ChunkSize();
  if (c.documents.empty()) {
    c.tokens = std::max(c.tokens, (ranks == 2 ? 19 : 2 * ranks) * k + k - 1);
  }
  return c;
}

bool HasASliceForAll(const ModelCase& c, int ranks) {
  return (c.tokens + c.config.ChunkSize() - 1) / c.config.ChunkSize() >= 2 * ranks;
}

// Of one rank, or the sum over ranks: text rows are one rank's each, the loss and every gradient sums.
struct Total {
  double loss = 0.0;
  std::vector<double> hidden;
  std::vector<std::vector<double>> gradients;
};

// Index: rank.
std::vector<Total> RunOn(int ranks, const ModelCase& c, DType dtype, const ModelHarness::Options& options = {}) {
  std::vector<Total> outcomes(static_cast<size_t>(ranks));
  RunRanks(ranks, [&](Communicator& world) {
    const ProcessMesh mesh(world, {.context = ranks});
    ModelHarness harness(c, dtype, {}, &mesh);
    const Outcome outcome = harness.Run(options);
    outcomes[static_cast<size_t>(world.rank())] = {outcome.loss, ToDouble(outcome.hidden), outcome.gradients};
  });
  return outcomes;
}

void AddTo(std::vector<double>& sum, const std::vector<double>& x) {
  sum.resize(x.size(), 0.0);
  std::transform(x.begin(), x.end(), sum.begin(), sum.begin(), [](double a, double b) { return a + b; });
}

Total TotalOf(const std::vector<Total>& ranks) {
  Total total;
  total.gradients.resize(ranks.front().gradients.size());
  for (const Total& rank : ranks) {
    total.loss += rank.loss;
    AddTo(total.hidden, rank.hidden);
    for (size_t p = 0; p < total.gradients.size(); ++p) {
      AddTo(total.gradients[p], rank.gradients[p]);
    }
  }
  return total;
}

double LargestOf(const std::vector<double>& values) {
  double largest = 0.0;
  for (const double x : values) {
    largest = std::max(largest, std::abs(x));
  }
  return largest;
}

// Each tensor relative to its largest element; those whose gradient is rounding noise, to 1e-3 of the largest of all.
void ExpectGradients(const Total& total, const Outcome& expected, double bound) {
  double largest = 0.0;
  for (const std::vector<double>& gradient : expected.gradients) {
    largest = std::max(largest, LargestOf(gradient));
  }
  ASSERT_EQ(total.gradients.size(), expected.gradients.size());
  for (size_t p = 0; p < expected.gradients.size(); ++p) {
    const double scale = std::max(1e-3 * largest, LargestOf(expected.gradients[p]));
    ASSERT_EQ(total.gradients[p].size(), expected.gradients[p].size());
    double difference = 0.0;
    for (size_t i = 0; i < total.gradients[p].size(); ++i) {
      const double d = std::abs(total.gradients[p][i] - expected.gradients[p][i]);
      difference = d <= difference ? difference : d;
    }
    EXPECT_LT(difference / scale, bound) << "parameter " << p;
  }
}

void ExpectEqualsOneRank(const ModelCase& c, int ranks, ContextMethod method) {
  ModelHarness alone(c, DType::kF64);
  const Outcome expected = alone.Run();
  const Total total = TotalOf(RunOn(ranks, c, DType::kF64, {.context_method = method}));
  EXPECT_NEAR(total.loss, expected.loss, 1e-12 * expected.loss);
  EXPECT_LT(RelativeDifference(total.hidden, ToDouble(expected.hidden)), 1e-12);
  ExpectGradients(total, expected, 1e-12);
}

TEST(ContextParallelTest, LossAndGradientsAreThoseOfOneRank) {
  int runs = 0;
  for (const ModelCase& plain : ModelCases()) {
    for (int ranks = 2; ranks <= 4; ++ranks) {
      const ModelCase c = LongEnough(plain, ranks);
      if (!HasASliceForAll(c, ranks)) {
        continue;
      }
      SCOPED_TRACE(::testing::Message() << c.name << ", " << ranks << " ranks");
      ExpectEqualsOneRank(c, ranks, ContextMethod::kAuto);
      ++runs;
    }
  }
  EXPECT_GE(runs, 80);
}

TEST(ContextParallelTest, EveryMethodDoesEveryLayer) {
  for (const char* name : kFewCases) {
    for (const ContextMethod method : {ContextMethod::kKeys, ContextMethod::kHeads}) {
      SCOPED_TRACE(::testing::Message() << name << ", method " << static_cast<int>(method));
      ExpectEqualsOneRank(LongEnough(FindCase(name), 2), 2, method);
    }
  }
}

TEST(ContextParallelTest, MicroBatchesAddUp) {
  const ModelCase c = LongEnough(FindCase("hybrid, attend, everything own, m 2"), 3);
  ModelHarness alone(c, DType::kF64);
  const Outcome expected = alone.Run();
  ExpectGradients(TotalOf(RunOn(3, c, DType::kF64, {.micro_batch = 1})), expected, 1e-12);
}

TEST(ContextParallelTest, RecomputeEqualsNoneInBits) {
  for (const char* name : kFewCases) {
    for (const DType dtype : {DType::kF64, DType::kBF16}) {
      const ModelCase c = LongEnough(FindCase(name), 3);
      const std::vector<Total> expected = RunOn(3, c, dtype);
      for (const Recompute recompute : {Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
        SCOPED_TRACE(::testing::Message()
                     << name << ", " << NameOf(dtype) << ", recompute " << static_cast<int>(recompute));
        const std::vector<Total> ranks = RunOn(3, c, dtype, {.recompute = recompute});
        for (size_t r = 0; r < ranks.size(); ++r) {
          EXPECT_EQ(ranks[r].loss, expected[r].loss) << "rank " << r;
          EXPECT_EQ(ranks[r].hidden, expected[r].hidden) << "rank " << r;
          EXPECT_EQ(ranks[r].gradients, expected[r].gradients) << "rank " << r;
        }
      }
    }
  }
}

// In narrow types: as near as one rank of the same type, which is what training compares.
TEST(ContextParallelTest, LowerPrecisionIsNear) {
  for (const char* name : kFewCases) {
    SCOPED_TRACE(name);
    const ModelCase c = LongEnough(FindCase(name), 2);
    ModelHarness exact(c, DType::kF64);
    const Outcome expected = exact.Run();
    ExpectGradients(TotalOf(RunOn(2, c, DType::kF32)), expected, 1e-4);
    EXPECT_NEAR(TotalOf(RunOn(2, c, DType::kBF16)).loss, expected.loss, 0.05 * expected.loss);
  }
}

// Every tensor rank of a context rank has its own heads of the same rows; those that remain may not divide any more.
TEST(ContextParallelTest, WithTensorRanks) {
  for (const char* name : kFewCases) {
    for (const bool parts : {false, true}) {
      SCOPED_TRACE(::testing::Message() << name << ", rows in parts: " << parts);
      const ModelCase c = LongEnough(FindCase(name), 2);
      ModelHarness alone(c, DType::kF64);
      const Outcome expected = alone.Run();
      std::vector<Total> ranks(4);
      RunRanks(4, [&](Communicator& world) {
        const ProcessMesh mesh(world, {.context = 2, .tensor = 2}, parts);
        ModelHarness harness(c, DType::kF64, {}, &mesh);
        const Outcome outcome = harness.Run();
        ranks[static_cast<size_t>(world.rank())] = {outcome.loss, ToDouble(outcome.hidden), outcome.gradients};
      });
      for (const size_t tensor_rank : {0, 1}) {
        const Total total = TotalOf({ranks[tensor_rank], ranks[2 + tensor_rank]});
        EXPECT_NEAR(total.loss, expected.loss, 1e-12 * expected.loss);
        EXPECT_LT(RelativeDifference(total.hidden, ToDouble(expected.hidden)), 1e-12);
      }
    }
  }
}

// Changing one document changes no bit of another's hidden rows, wherever ranks cut.
TEST(ContextParallelTest, DocumentsDoNotSeeEachOther) {
  for (const char* name : {"documents, ksa",
                           "documents, hybrid, m 2, everything own",
                           "documents, full and swa",
                           "documents, short_conv",
                           "documents, hca, short_conv",
                           "documents, hca, overlap"}) {
    const ModelCase c = FindCase(name);
    for (const int ranks : {2, 3}) {
      if (!HasASliceForAll(c, ranks)) {
        continue;
      }
      for (const DType dtype : {DType::kF64, DType::kBF16}) {
        SCOPED_TRACE(::testing::Message() << name << ", " << ranks << " ranks, " << NameOf(dtype));
        RunRanks(ranks, [&](Communicator& world) {
          const ProcessMesh mesh(world, {.context = ranks});
          ModelHarness harness(c, dtype, {}, &mesh);
          const std::vector<double> before = ToDouble(harness.Run().hidden);
          const auto width = static_cast<int64_t>(before.size()) / harness.ids().size();
          for (const DocumentPlace& changed : harness.places()) {
            int32_t* ids = harness.ids().As<int32_t>() + harness.FirstRow(changed);
            const std::vector<int32_t> old(ids, ids + changed.length);
            std::transform(ids, ids + changed.length, ids, [&](int32_t id) { return (id + 1) % c.config.vocab_size; });
            const std::vector<double> after = ToDouble(harness.Run().hidden);
            std::copy(old.begin(), old.end(), ids);
            for (const DocumentPlace& other : harness.places()) {
              const int64_t first = harness.FirstRow(other) * width;
              const bool same = std::equal(
                  before.begin() + first, before.begin() + first + other.length * width, after.begin() + first);
              const bool is_changed = &other == &changed;
              EXPECT_TRUE(same || is_changed) << "document at " << other.first << " of " << other.sequence;
            }
          }
        });
      }
    }
  }
}

TEST(ContextParallelTest, RefusesTextThatIsNotThisRanks) {
  const ModelCase c = LongEnough(FindCase("ksa"), 2);
  RunRanks(2, [&](Communicator& world) {
    const ProcessMesh mesh(world, {.context = 2});
    ModelHarness harness(c, DType::kF64, {}, &mesh);
    testing::GuardAllocator memory;
    ExecContext cx;
    cx.allocator = &memory;
    cx.mesh = &mesh;
    KsaModel::Input input = {.ids = harness.ids(), .layout = MakeLayout(c.config, 1, c.tokens)};
    EXPECT_THROW((void)harness.model().Hidden(cx, input), Error) << "whole sequences";
    ExecContext alone = cx;
    alone.mesh = nullptr;
    input.layout = MakeLocalLayout(input.layout, 2, 0);
    input.ids = harness.ids().Rows(0, input.layout.text_rows());
    EXPECT_THROW((void)harness.model().Hidden(alone, input), Error) << "a part, without a mesh";
  });
}

}  // namespace
}  // namespace ksa
