// The mean loss of a validation and its standard error.
#include "trainer/evaluate/evaluation_sums.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/philox.h"

namespace ksa {
namespace {

EvaluationSums SumsOf(const std::vector<std::vector<double>>& samples) {
  size_t longest = 1;
  for (const std::vector<double>& sample : samples) {
    longest = std::max(longest, sample.size());
  }
  EvaluationSums sums(static_cast<int32_t>(longest), static_cast<int64_t>(samples.size()));
  for (size_t i = 0; i < samples.size(); ++i) {
    for (size_t j = 0; j < samples[i].size(); ++j) {
      sums.AddTarget(static_cast<int64_t>(i), static_cast<int64_t>(j), samples[i][j]);
      sums.loss += samples[i][j];
    }
  }
  return sums;
}

double Uniform(uint64_t a, uint64_t b) {
  return static_cast<double>(Philox4x32(NamedKey(3, "losses"), a, b)[0]) / 4294967296.0;
}

TEST(EvaluationSums, SumsByPositionAndBySample) {
  const EvaluationSums sums = SumsOf({{1, 2, 3}, {5}, {}, {7, 1}});
  EXPECT_EQ(sums.targets, 6);
  EXPECT_EQ(sums.MeanLoss(), 19.0 / 6);
  EXPECT_EQ(sums.position_loss, (std::vector<double>{13, 3, 3}));
  EXPECT_EQ(sums.position_targets, (std::vector<double>{3, 2, 1}));
  EXPECT_EQ(sums.sample_loss, (std::vector<double>{6, 5, 0, 8}));
  EXPECT_EQ(sums.sample_targets, (std::vector<double>{3, 1, 0, 2}));
}

TEST(EvaluationSums, OfSamplesOfOneLengthItIsTheStandardErrorOfTheirMeans) {
  for (const int samples : {2, 3, 113}) {
    std::vector<std::vector<double>> losses(static_cast<size_t>(samples));
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < losses.size(); ++i) {
      double mean = 0;
      for (uint64_t j = 0; j < 8; ++j) {
        losses[i].push_back(3 + Uniform(i, 0) + Uniform(i, 1 + j));  // targets of a sample depend on each other
        mean += losses[i].back() / 8;
      }
      sum += mean;
      squares += mean * mean;
    }
    const double variance = (squares - sum * sum / samples) / (samples - 1);
    EXPECT_NEAR(*SumsOf(losses).StandardError(), std::sqrt(variance / samples), 1e-12) << samples;
  }
}

// By hand: mean (6 + 4) / (2 + 3) = 2, residuals 6 - 2·2 = 2 and 4 - 2·3 = -2, sqrt(2/1 · 8) / 5.
TEST(EvaluationSums, SamplesWeighAsTheyHaveTargets) {
  EXPECT_NEAR(*SumsOf({{3, 3}, {1, 1, 2}}).StandardError(), 0.8, 1e-15);
  EXPECT_NEAR(*SumsOf({{3, 3}, {}, {1, 1, 2}}).StandardError(), 0.8, 1e-15) << "a sample without targets counts";
}

// The mean of 40 samples of 1 to 16 targets, drawn 2000 times, spreads as its standard error says.
TEST(EvaluationSums, PredictsTheSpreadOfTheMean) {
  constexpr uint64_t kDraws = 2000;
  double sum = 0;
  double squares = 0;
  double errors = 0;
  for (uint64_t draw = 0; draw < kDraws; ++draw) {
    std::vector<std::vector<double>> losses(40);
    for (size_t i = 0; i < losses.size(); ++i) {
      const uint64_t at = draw * 1000 + i;
      losses[i].resize(1 + Philox4x32(NamedKey(3, "lengths"), at)[0] % 16);
      for (size_t j = 0; j < losses[i].size(); ++j) {
        losses[i][j] = 2 + Uniform(at, 0) + Uniform(at, 1 + j);
      }
    }
    const EvaluationSums sums = SumsOf(losses);
    sum += sums.MeanLoss();
    squares += sums.MeanLoss() * sums.MeanLoss();
    errors += *sums.StandardError();
  }
  const double spread = std::sqrt((squares - sum * sum / kDraws) / (kDraws - 1));
  // The spread of 2000 draws is itself known to 1/sqrt(2 · 2000) = 1.6 %; four times that.
  EXPECT_NEAR(errors / kDraws / spread, 1, 0.065);
}

TEST(EvaluationSums, FewerThanTwoSamplesHaveNone) {
  EXPECT_FALSE(SumsOf({}).StandardError().has_value());
  EXPECT_FALSE(SumsOf({{1, 2, 3}}).StandardError().has_value());
  EXPECT_FALSE(SumsOf({{1, 2, 3}, {}}).StandardError().has_value());
  EXPECT_EQ(SumsOf({{}, {}}).MeanLoss(), 0);
}

}  // namespace
}  // namespace ksa
