#include "trainer/evaluate/sampling.h"

#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace ksa {
namespace {

// Probabilities 0.5, 0.3, 0.15, 0.05, in another order.
const std::vector<double> kLogits = {std::log(0.15), std::log(0.5), std::log(0.05), std::log(0.3)};

std::vector<int> CountsOf(const SamplingOptions& options, uint64_t text = 0) {
  std::vector<int> counts(kLogits.size());
  for (uint64_t step = 0; step < 4000; ++step) {
    ++counts[static_cast<size_t>(SampleToken(kLogits, options, step, text))];
  }
  return counts;
}

// 4000 draws: a share of 0.5 has a standard deviation of 32.
TEST(Sampling, DrawsByProbability) {
  const std::vector<int> counts = CountsOf({.seed = 3});
  EXPECT_NEAR(counts[1], 2000, 150);
  EXPECT_NEAR(counts[3], 1200, 150);
  EXPECT_NEAR(counts[0], 600, 120);
  EXPECT_NEAR(counts[2], 200, 80);
}

TEST(Sampling, TopPKeepsAsFewAsHaveItTogether) {
  const auto kept = [](double p) {
    std::set<int> ids;
    const std::vector<int> counts = CountsOf({.top_p = p, .seed = 3});
    for (size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] > 0) {
        ids.insert(static_cast<int>(i));
      }
    }
    return ids;
  };
  EXPECT_EQ(kept(0.0), (std::set<int>{1}));
  EXPECT_EQ(kept(0.49), (std::set<int>{1}));
  EXPECT_EQ(kept(0.51), (std::set<int>{1, 3}));
  EXPECT_EQ(kept(0.9), (std::set<int>{1, 3, 0}));
  EXPECT_EQ(kept(1.0), (std::set<int>{0, 1, 2, 3}));
  const std::vector<int> two = CountsOf({.top_p = 0.7, .seed = 3});  // 5 to 3
  EXPECT_NEAR(two[1], 2500, 150);
}

TEST(Sampling, TopPIsOfWhatTopKLeaves) {
  EXPECT_EQ(CountsOf({.top_k = 2, .top_p = 0.6, .seed = 3})[3], 0);  // 0.5 of 0.8 is more than 0.6
  EXPECT_GT(CountsOf({.top_p = 0.6, .seed = 3})[3], 0);
}

TEST(Sampling, WithoutTemperatureTheLikeliestAndOfEqualsTheFirst) {
  EXPECT_EQ(SampleToken(kLogits, {.temperature = 0.0}, 7), 1);
  EXPECT_EQ(SampleToken(std::vector<double>{1.0, 2.0, 2.0}, {.temperature = 0.0}, 7), 1);
}

TEST(Sampling, TextsOfACallDifferAndTheFirstIsTheOneAlone) {
  const SamplingOptions options = {.seed = 3};
  int differ = 0;
  for (uint64_t step = 0; step < 100; ++step) {
    EXPECT_EQ(SampleToken(kLogits, options, step), SampleToken(kLogits, options, step, 0));
    differ += SampleToken(kLogits, options, step, 1) != SampleToken(kLogits, options, step, 2) ? 1 : 0;
  }
  EXPECT_GT(differ, 30);
}

}  // namespace
}  // namespace ksa
