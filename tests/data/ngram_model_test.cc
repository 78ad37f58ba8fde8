#include "data/tools/ngram_model.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tests/data/naive_ngrams.h"

namespace ksa {
namespace {

// "abab" over the vocabulary {a, b, c}. Behind nothing: a twice, b twice, 2 types, so p(a) = (2 + 2/3)/6 = 4/9 and p(c)
// = (2/3)/6 = 1/9. Behind a: b twice, 1 type, so p(b|a) = (2 + 4/9)/3 = 22/27. Behind "ba": b once, so p(b|ba) = (1 +
// 22/27)/2 = 49/54. Behind "aba": b once, so p(b|aba) = (1 + 49/54)/2 = 103/108.
TEST(NgramModel, IsTheComputationByHand) {
  NgramModel model(3);
  NgramModel::History counted;
  for (const int32_t token : {0, 1, 0, 1}) {
    model.Count(counted, token);
  }
  NgramModel::History history;
  EXPECT_DOUBLE_EQ(model.Probability(history, 0), 4.0 / 9);
  EXPECT_DOUBLE_EQ(model.Probability(history, 2), 1.0 / 9);
  model.Advance(history, 0);
  EXPECT_DOUBLE_EQ(model.Probability(history, 1), 22.0 / 27);
  history = {};
  for (const int32_t token : {1, 0}) {
    model.Advance(history, token);
  }
  EXPECT_DOUBLE_EQ(model.Probability(history, 1), 49.0 / 54);
  history = {};
  for (const int32_t token : {0, 1, 0}) {
    model.Advance(history, token);
  }
  EXPECT_DOUBLE_EQ(model.Probability(history, 1), 103.0 / 108);
  model.Advance(history, 2);  // never seen: nothing is known of what follows it
  EXPECT_DOUBLE_EQ(model.Probability(history, 2), 1.0 / 9);
}

TEST(NgramModel, AgreesWithTheDefinitionAndSumsToOne) {
  constexpr int32_t kVocab = 7;
  std::mt19937 random(1);
  const auto draw = [&](size_t length) {
    std::vector<int32_t> text(length);
    for (int32_t& token : text) {
      token = static_cast<int32_t>(random() % 3 * (random() % 4));  // 5 is never seen, some are rare
    }
    return text;
  };
  const std::vector<std::vector<int32_t>> texts = {draw(500), {3}, {}, draw(2), draw(113)};
  NgramModel model(kVocab);
  for (const std::vector<int32_t>& text : texts) {
    NgramModel::History history;
    for (const int32_t token : text) {
      model.Count(history, token);
    }
  }
  const testing::NaiveNgrams naive(texts, NgramModel::kOrder, kVocab);
  const std::vector<int32_t> held_out = draw(400);
  NgramModel::History history;
  for (size_t i = 0; i < held_out.size(); ++i) {
    const auto at = held_out.begin() + static_cast<std::ptrdiff_t>(i);
    const std::vector<int32_t> last(at - static_cast<std::ptrdiff_t>(std::min<size_t>(i, 3)), at);
    double sum = 0;
    for (int32_t token = 0; token < kVocab; ++token) {
      const double probability = model.Probability(history, token);
      ASSERT_NEAR(probability, naive.Probability(last, token), 1e-14) << "position " << i << ", token " << token;
      sum += probability;
    }
    ASSERT_NEAR(sum, 1, 1e-13);
    model.Advance(history, held_out[i]);
  }
}

}  // namespace
}  // namespace ksa
