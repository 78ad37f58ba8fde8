#include "data/sampling/document_rows.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace ksa {
namespace {

struct Filled {
  std::vector<int32_t> inputs, targets, first_chunk, chunk_tokens;
  int64_t target_count = 0;
  int64_t dropped = 0;

  friend bool operator==(const Filled&, const Filled&) = default;
};

// The contract's rule, one raw token at a time.
Filled Naive(const std::vector<int32_t>& window, const std::vector<int64_t>& starts, int32_t k) {
  const auto length = static_cast<int64_t>(window.size()) - 1;
  const auto chunks = static_cast<size_t>((length + k - 1) / k);
  Filled filled{std::vector<int32_t>(static_cast<size_t>(length), 0),
                std::vector<int32_t>(static_cast<size_t>(length), -1),
                std::vector<int32_t>(chunks, -7),
                std::vector<int32_t>(chunks, 0)};
  const auto is_start = [&](int64_t i) { return i == 0 || std::count(starts.begin(), starts.end(), i) > 0; };
  int64_t row = 0;
  int32_t document_chunk = 0;
  int64_t raw = 0;
  for (; raw < length; ++raw, ++row) {
    if (is_start(raw)) {
      while (row % k != 0) {
        ++row;
      }
      document_chunk = static_cast<int32_t>(row / k);
    }
    if (row >= length) {
      break;
    }
    const auto r = static_cast<size_t>(row);
    filled.inputs[r] = window[static_cast<size_t>(raw)];
    if (!is_start(raw + 1)) {
      filled.targets[r] = window[static_cast<size_t>(raw) + 1];
      ++filled.target_count;
    }
    filled.first_chunk[r / static_cast<size_t>(k)] = document_chunk;
    ++filled.chunk_tokens[r / static_cast<size_t>(k)];
  }
  filled.dropped = length - raw;
  return filled;
}

Filled Fast(const std::vector<int32_t>& window, const std::vector<int64_t>& starts, int32_t k) {
  const size_t length = window.size() - 1;
  const size_t chunks = (length + static_cast<size_t>(k) - 1) / static_cast<size_t>(k);
  Filled filled{std::vector<int32_t>(length, 77),
                std::vector<int32_t>(length, 77),
                std::vector<int32_t>(chunks, 77),
                std::vector<int32_t>(chunks, 77)};
  const FillResult result =
      FillDocumentRows(window, starts, k, {filled.inputs, filled.targets, filled.first_chunk, filled.chunk_tokens});
  filled.target_count = result.targets;
  filled.dropped = result.dropped;
  return filled;
}

TEST(FillDocumentRows, ByHand) {
  // T = 8, k = 4; documents of 3 and 5 tokens, and the last raw token begins a third.
  const Filled filled = Fast({1, 2, 9, 3, 4, 5, 6, 9, 7}, {3, 8}, 4);
  EXPECT_EQ(filled.inputs, std::vector<int32_t>({1, 2, 9, 0, 3, 4, 5, 6}));
  EXPECT_EQ(filled.targets, std::vector<int32_t>({2, 9, -1, -1, 4, 5, 6, 9}));
  EXPECT_EQ(filled.first_chunk, std::vector<int32_t>({0, 1}));
  EXPECT_EQ(filled.chunk_tokens, std::vector<int32_t>({3, 4}));
  EXPECT_EQ(filled.target_count, 6);
  EXPECT_EQ(filled.dropped, 1);
}

TEST(FillDocumentRows, OneDocumentIsThePlainFilling) {
  const Filled filled = Fast({1, 2, 3, 4, 5, 6}, {}, 2);
  EXPECT_EQ(filled.inputs, std::vector<int32_t>({1, 2, 3, 4, 5}));
  EXPECT_EQ(filled.targets, std::vector<int32_t>({2, 3, 4, 5, 6}));
  EXPECT_EQ(filled.first_chunk, std::vector<int32_t>({0, 0, 0}));
  EXPECT_EQ(filled.chunk_tokens, std::vector<int32_t>({2, 2, 1}));
  EXPECT_EQ(filled.dropped, 0);
}

TEST(FillDocumentRows, EqualsTheRuleOneTokenAtATime) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 4000; ++trial) {
    const auto length = 1 + static_cast<int64_t>(random() % 40);
    const auto k = 1 + static_cast<int32_t>(random() % 9);
    const unsigned rarity = 1 + random() % 12;
    std::vector<int32_t> window;
    std::vector<int64_t> starts;
    for (int64_t i = 0; i <= length; ++i) {
      window.push_back(1 + static_cast<int32_t>(random() % 200));
      if (i > 0 && random() % rarity == 0) {
        starts.push_back(i);
      }
    }
    ASSERT_EQ(Fast(window, starts, k), Naive(window, starts, k)) << "T " << length << ", k " << k;
  }
}

}  // namespace
}  // namespace ksa
