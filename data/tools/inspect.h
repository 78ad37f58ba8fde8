// `ksa data inspect`: what a shard folder holds.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/shards/shard_folder.h"

namespace ksa {

inline constexpr int64_t kEntropyTokens = 100'000'000;  // at most as many tokens of each part are counted
inline constexpr int64_t kNgramTokens = 10'000'000;     // for the n-grams: their table takes up to 100 bytes a token

// Documents by length: bin i counts the lengths [2^i, 2^(i+1)).
struct LengthHistogram {
  std::vector<int64_t> counts;
  int64_t shortest = 0;
  int64_t longest = 0;
  double mean = 0;
};

[[nodiscard]] LengthHistogram DocumentLengths(const ShardFolder& folder);

// The first `tokens` tokens of the folder's document `document` (from 0), as text.
[[nodiscard]] std::string SampleText(const ShardFolder& folder, int64_t document, int64_t tokens);

// Mean negative logarithm, in nats a token, of the validation part's tokens (all but the first of each shard) under
// counts of the training part: unigram u(b) = (c(b) + 1) / (n + V), bigram p(b|a) = (c(ab) + 5·u(b)) / (c(a) + 5), and
// 4-grams as NgramModel has them, counted over the first kNgramTokens tokens. A pair or an n-gram lies in one shard;
// c(a) counts a's that are followed by something.
struct CrossEntropy {
  double unigram = 0;
  double bigram = 0;
  double ngram = 0;
  int64_t train_tokens = 0;
  int64_t ngram_tokens = 0;  // of the training part
  int64_t validation_tokens = 0;
};

// Error kBadData when the two parts have different tokenizers or there is no pair to measure.
[[nodiscard]] CrossEntropy MeasureCrossEntropy(const ShardFolder& train, const ShardFolder& validation);

}  // namespace ksa
