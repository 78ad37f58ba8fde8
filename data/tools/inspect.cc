#include "data/tools/inspect.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <span>

#include "data/tokenizers/tokenizer.h"
#include "data/tools/ngram_model.h"
#include "data/tools/pair_table.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int64_t kReadTokens = int64_t{1} << 18;

// Calls use(a, b) for neighbouring tokens of the folder's first `limit` tokens; a is -1 for a shard's first token.
// Returns how many tokens that were. Error kBadData when one of them is not in the vocabulary of `vocab_size`.
template <typename Use>
int64_t ForEachPair(const ShardFolder& folder, int64_t vocab_size, int64_t limit, const Use& use) {
  int64_t left = limit;
  std::vector<int32_t> tokens;
  for (const TokenShard& shard : folder.shards()) {
    int32_t before = -1;
    const int64_t count = std::min(left, shard.tokens());
    for (int64_t first = 0; first < count; first += kReadTokens) {
      tokens.resize(static_cast<size_t>(std::min(kReadTokens, count - first)));
      shard.Read(first, tokens);
      for (const int32_t token : tokens) {
        if (token < 0 || token >= vocab_size) {
          Fail(ExitCode::kBadData, "{}: holds token {}, the vocabulary has {}", folder.path(), token, vocab_size);
        }
        use(before, token);
        before = token;
      }
    }
    left -= count;
    shard.Release();
  }
  return limit - left;
}

}  // namespace

LengthHistogram DocumentLengths(const ShardFolder& folder) {
  LengthHistogram histogram;
  histogram.shortest = INT64_MAX;
  for (const TokenShard& shard : folder.shards()) {
    const std::span<const uint64_t> offsets = shard.document_offsets();
    for (size_t d = 0; d + 1 < offsets.size(); ++d) {
      if (offsets[d + 1] <= offsets[d]) {
        Fail(ExitCode::kBadData, "{}: /document_offsets does not rise strictly; the file is damaged", shard.path());
      }
      const uint64_t length = offsets[d + 1] - offsets[d];
      const auto bin = static_cast<size_t>(std::bit_width(length) - 1);
      histogram.counts.resize(std::max(histogram.counts.size(), bin + 1));
      ++histogram.counts[bin];
      histogram.shortest = std::min(histogram.shortest, static_cast<int64_t>(length));
      histogram.longest = std::max(histogram.longest, static_cast<int64_t>(length));
    }
    shard.Release();
  }
  histogram.mean = static_cast<double>(folder.index().tokens()) / static_cast<double>(folder.index().documents());
  return histogram;
}

std::string SampleText(const ShardFolder& folder, int64_t document, int64_t tokens) {
  for (const TokenShard& shard : folder.shards()) {
    if (document >= shard.documents()) {
      document -= shard.documents();
      continue;
    }
    const std::span<const uint64_t> offsets = shard.document_offsets();
    const auto begin = static_cast<int64_t>(offsets[static_cast<size_t>(document)]);
    const auto end = static_cast<int64_t>(offsets[static_cast<size_t>(document) + 1]);
    if (begin < 0 || end <= begin || end > shard.tokens()) {
      Fail(ExitCode::kBadData, "{}: /document_offsets does not rise strictly; the file is damaged", shard.path());
    }
    std::vector<int32_t> ids(static_cast<size_t>(std::min(tokens, end - begin)));
    shard.Read(begin, ids);
    return OpenTokenizer(folder.TokenizerPath())->Decode(ids);
  }
  Fail(ExitCode::kUsage,
       "{}: has {} documents; there is no document of that number",
       folder.path(),
       folder.index().documents());
}

CrossEntropy MeasureCrossEntropy(const ShardFolder& train, const ShardFolder& validation) {
  if (train.index().tokenizer_xxh3 != validation.index().tokenizer_xxh3) {
    Fail(ExitCode::kBadData, "{} and {} were made with different tokenizers", train.path(), validation.path());
  }
  const int64_t vocab_size = train.index().vocab_size;
  std::vector<int64_t> counts(static_cast<size_t>(vocab_size));    // of tokens
  std::vector<int64_t> contexts(static_cast<size_t>(vocab_size));  // of tokens that another follows
  PairTable pairs;
  CrossEntropy result;
  result.train_tokens = ForEachPair(train, vocab_size, kEntropyTokens, [&](int32_t a, int32_t b) {
    ++counts[static_cast<size_t>(b)];
    if (a >= 0) {
      ++contexts[static_cast<size_t>(a)];
      pairs.Count(a, b);
    }
  });
  NgramModel ngrams(vocab_size);
  NgramModel::History history;
  result.ngram_tokens = ForEachPair(train, vocab_size, kNgramTokens, [&](int32_t a, int32_t b) {
    history = a >= 0 ? history : NgramModel::History();
    ngrams.Count(history, b);
  });
  const double total = static_cast<double>(result.train_tokens + vocab_size);
  int64_t measured = 0;
  result.validation_tokens = ForEachPair(validation, vocab_size, kEntropyTokens, [&](int32_t a, int32_t b) {
    history = a >= 0 ? history : NgramModel::History();
    if (a >= 0) {
      const double u = static_cast<double>(counts[static_cast<size_t>(b)] + 1) / total;
      const double pair = static_cast<double>(pairs.Get(a, b));
      result.unigram -= std::log(u);
      result.bigram -= std::log((pair + 5 * u) / (static_cast<double>(contexts[static_cast<size_t>(a)]) + 5));
      result.ngram -= std::log(ngrams.Probability(history, b));
      ++measured;
    }
    ngrams.Advance(history, b);
  });
  if (measured == 0) {
    Fail(ExitCode::kBadData, "{}: there is no pair of tokens to measure", validation.path());
  }
  result.unigram /= static_cast<double>(measured);
  result.bigram /= static_cast<double>(measured);
  result.ngram /= static_cast<double>(measured);
  return result;
}

}  // namespace ksa
