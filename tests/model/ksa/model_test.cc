// Whole models against the naive one, central differences, and themselves run another way.
#include "model/ksa/model.h"

#include <cmath>
#include <functional>

#include "tests/model/ksa/model_cases.h"
#include "tests/model/ksa/model_checks.h"

namespace ksa {
namespace {

using testing::ElementAt;
using testing::FindCase;
using testing::ModelCase;
using testing::ModelCases;
using testing::ModelHarness;
using testing::Outcome;
using testing::RelativeDifference;
using testing::ToDouble;

using Options = ModelHarness::Options;

// A test of every case in one ctest test: starting a process takes longer than most of them.
void ForAllCases(const std::function<void(const ModelCase&)>& test) {
  for (const ModelCase& c : ModelCases()) {
    SCOPED_TRACE("case: " + c.name);
    test(c);
  }
}

// More threads than free cores make a test slow, so these few stand for all.
void ForThreadedCases(const std::function<void(const ModelCase&)>& test) {
  for (const char* name : {"ksa, m 2, GQA, everything own", "hybrid, attend", "documents, ksa"}) {
    SCOPED_TRACE(name);
    test(FindCase(name));
  }
}

// The largest difference of two sets of gradients, each tensor relative to its largest expected element. Tensors whose
// gradient is rounding noise are held against 1e-3 of the largest of all.
double GradientDifference(const Outcome& actual, const Outcome& expected) {
  double largest = 0.0;
  for (const std::vector<double>& gradient : expected.gradients) {
    for (const double g : gradient) {
      largest = std::max(largest, std::abs(g));
    }
  }
  double worst = 0.0;
  for (size_t p = 0; p < expected.gradients.size(); ++p) {
    double scale = 1e-3 * largest;
    double difference = 0.0;
    for (size_t i = 0; i < expected.gradients[p].size(); ++i) {
      scale = std::max(scale, std::abs(expected.gradients[p][i]));
      const double d = std::abs(actual.gradients[p][i] - expected.gradients[p][i]);
      difference = d <= difference ? difference : d;
    }
    worst = std::max(worst, difference / scale);
  }
  return worst;
}

void ExpectClose(const Outcome& actual, const Outcome& expected, double bound) {
  EXPECT_NEAR(actual.loss, expected.loss, bound * expected.loss);
  EXPECT_LT(RelativeDifference(ToDouble(actual.hidden), ToDouble(expected.hidden)), bound);
  EXPECT_LT(GradientDifference(actual, expected), bound);
}

void ExpectSameBits(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.loss, expected.loss);
  testing::ExpectSameBits(actual.hidden, expected.hidden, "hidden states");
  EXPECT_EQ(actual.gradients, expected.gradients);
}

TEST(ModelTest, LogitsAndLossAreThoseOfTheNaiveModel) {
  ForAllCases(testing::ExpectNaiveModel);
}

TEST(ModelTest, GradientsAreThoseOfCentralDifferences) {
  ForAllCases(testing::ExpectNumericGradients);
}

TEST(ModelTest, RecomputeEqualsNoneInBits) {
  ForAllCases([](const ModelCase& c) {
    for (const DType dtype : testing::kFloatingTypes) {
      ModelHarness harness(c, dtype);
      const Outcome expected = harness.Run();
      for (const Recompute recompute : {Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
        SCOPED_TRACE(::testing::Message() << NameOf(dtype) << ", recompute " << static_cast<int>(recompute));
        ExpectSameBits(harness.Run({.recompute = recompute}), expected);
      }
    }
  });
}

TEST(ModelTest, DeadSummariesChangeNothing) {
  ForAllCases([](const ModelCase& c) {
    ModelHarness harness(c, DType::kF64);
    ExpectClose(harness.Run({.all_chunks_live = true}), harness.Run(), 1e-12);
  });
}

TEST(ModelTest, SequencesOfAMicroBatchAreSummed) {
  ForAllCases([](const ModelCase& c) {
    if (c.sequences > 1) {
      ModelHarness harness(c, DType::kF64);
      ExpectClose(harness.Run({.micro_batch = 1}), harness.Run(), 1e-12);
    }
  });
}

// Sums of matrix products may be cut by threads, so not in bits; but the same number of threads gives the same bits.
TEST(ModelTest, ThreadsChangeNothing) {
  ForThreadedCases([](const ModelCase& c) {
    ModelHarness harness(c, DType::kF64);
    const Outcome two = harness.Run({.threads = 2});
    ExpectClose(two, harness.Run(), 1e-12);
    ExpectSameBits(harness.Run({.threads = 2}), two);
  });
}

// bf16 against fp64 with the same weights: activations and gradients are rounded to 8 bits a dozen times.
TEST(ModelTest, LowerPrecisionIsNear) {
  ForAllCases([](const ModelCase& c) {
    ModelHarness exact(c, DType::kF64);
    const Outcome expected = exact.Run();
    ModelHarness f32(c, DType::kF32);
    ExpectClose(f32.Run(), expected, 1e-4);
    ModelHarness bf16(c, DType::kBF16);
    EXPECT_NEAR(bf16.Run().loss, expected.loss, 0.05 * expected.loss);
  });
}

// Other tokens in one document change no bit of another one's rows.
TEST(ModelTest, DocumentsDoNotSeeEachOther) {
  ForAllCases([](const ModelCase& c) {
    ModelHarness harness(c, DType::kF32);
    const Tensor before = harness.Run().hidden;
    for (const testing::DocumentPlace& changed : harness.places()) {
      int32_t* tokens = harness.ids().As<int32_t>() + harness.FirstRow(changed);
      const std::vector<int32_t> original(tokens, tokens + changed.length);
      for (int32_t i = 0; i < changed.length; ++i) {
        tokens[i] = (tokens[i] + 1 + i) % c.config.vocab_size;
      }
      const Tensor after = harness.Run().hidden;
      for (const testing::DocumentPlace& place : harness.places()) {
        const Tensor was = before.Rows(harness.FirstRow(place), place.length);
        const Tensor is = after.Rows(harness.FirstRow(place), place.length);
        if (harness.FirstRow(place) == harness.FirstRow(changed)) {
          EXPECT_NE(ToDouble(is), ToDouble(was));
        } else {
          testing::ExpectSameBits(is, was, "another document");
        }
      }
      std::copy(original.begin(), original.end(), tokens);
    }
  });
}

// A later token changes no bit of an earlier row.
TEST(ModelTest, NoRowSeesTheFuture) {
  ForAllCases([](const ModelCase& c) {
    ModelHarness harness(c, DType::kF32);
    const Tensor before = harness.Run().hidden;
    const testing::DocumentPlace& place = harness.places().front();
    for (int32_t changed = 1; changed < place.length; ++changed) {
      int32_t& token = harness.ids().As<int32_t>()[harness.FirstRow(place) + changed];
      const int32_t original = token;
      token = (token + 1) % c.config.vocab_size;
      const Tensor after = harness.Run().hidden;
      const int64_t first = harness.FirstRow(place);
      testing::ExpectSameBits(after.Rows(first, changed), before.Rows(first, changed), "rows before the changed token");
      EXPECT_NE(ToDouble(after.Rows(first + changed, 1)), ToDouble(before.Rows(first + changed, 1)));
      token = original;
    }
  });
}

TEST(ModelTest, PaddingDoesNotMatter) {
  ForAllCases([](const ModelCase& c) {
    ModelHarness harness(c, DType::kF64);
    const Outcome before = harness.Run();
    std::vector<bool> real(static_cast<size_t>(harness.ids().size()), false);
    for (const testing::DocumentPlace& place : harness.places()) {
      std::fill_n(real.begin() + harness.FirstRow(place), place.length, true);
    }
    for (size_t i = 0; i < real.size(); ++i) {
      if (!real[i]) {
        harness.ids().As<int32_t>()[i] = 3;
      }
    }
    const Outcome after = harness.Run();
    EXPECT_EQ(after.loss, before.loss);
    EXPECT_EQ(after.gradients, before.gradients);
  });
}

TEST(KsaModelTest, RefusesOtherSizesThanTheLayoutAndTheTable) {
  ModelHarness harness(FindCase("ksa"), DType::kF64);
  testing::GuardAllocator allocator;
  const ExecContext cx = {.tape = nullptr, .stream = {}, .allocator = &allocator};
  KsaModel::Input input;
  input.ids = harness.ids();
  input.layout = MakeLayout(FindCase("ksa").config, 1, 18);
  EXPECT_THROW((void)harness.model().Hidden(cx, input), Error) << "19 ids, 18 rows";
  input.ids = Tensor::Zeros({20}, DType::kI32, allocator);
  input.layout = MakeLayout(FindCase("ksa").config, 1, 20);
  EXPECT_THROW((void)harness.model().Hidden(cx, input), Error) << "positions end at 19";
}

TEST(KsaModelTest, SummaryRowsEndInTheLastKsaLayer) {
  ModelHarness harness(FindCase("hybrid, attend"), DType::kF64);
  testing::GuardAllocator allocator;
  const ExecContext cx = {.tape = nullptr, .stream = {}, .allocator = &allocator};
  std::vector<Var> trace;
  KsaModel::Input input;
  input.ids = harness.ids();
  input.layout = MakeLayout(FindCase("hybrid, attend").config, 1, 19);
  input.trace = &trace;
  (void)harness.model().Hidden(cx, input);
  // 7 chunks, w = 1: 5 are live. Layers: ksa, full, ksa, full.
  const std::vector<int64_t> rows = {24, 24, 24, 19, 19};
  ASSERT_EQ(trace.size(), rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(trace[i].rows(), rows[i]) << "layer " << static_cast<int>(i) - 1;
  }
}

}  // namespace
}  // namespace ksa
