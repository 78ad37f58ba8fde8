// What attention is spent on, against the weights of the naive model, pair by pair.
#include "model/ksa/attention_shares.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/model/ksa/model_cases.h"
#include "tests/support/naive_model.h"

namespace ksa {
namespace {

using testing::ModelCase;
using testing::NaiveRow;

constexpr double kBound = 1e-12;  // fp64 on both sides

struct Expected {
  double window = 0;
  double own = 0;
  std::map<int32_t, double> by_age;    // every age by itself
  std::map<int32_t, double> by_chunk;  // of summaries
};

// Of text rows `chosen` in one head, from the weights on every row.
Expected Spent(const std::vector<NaiveRow>& rows, const std::vector<int32_t>& chosen, size_t head) {
  Expected expected;
  for (const NaiveRow& query : rows) {
    if (query.is_summary || std::find(chosen.begin(), chosen.end(), query.index) == chosen.end()) {
      continue;
    }
    for (size_t j = 0; j < rows.size(); ++j) {
      const double weight = query.weights[head][j] / static_cast<double>(chosen.size());
      if (rows[j].is_summary && weight > 0) {
        expected.by_age[query.chunk - rows[j].chunk] += weight;
        expected.by_chunk[rows[j].chunk] += weight;
      } else if (!rows[j].is_summary) {
        (rows[j].chunk == query.chunk ? expected.own : expected.window) += weight;
      }
    }
  }
  return expected;
}

void ExpectSpent(const HeadShares& actual, const Expected& expected) {
  EXPECT_NEAR(actual.window, expected.window, kBound);
  EXPECT_NEAR(actual.own, expected.own, kBound);
  double total = actual.window + actual.own;
  for (const AgeShare& age : actual.summaries_by_age) {
    double sum = 0;
    for (const auto& [at, share] : expected.by_age) {
      sum += at >= age.from && at <= age.to ? share : 0.0;
    }
    EXPECT_NEAR(age.share, sum, kBound) << "ages " << age.from << " to " << age.to;
    total += age.share;
  }
  EXPECT_NEAR(total, 1.0, kBound) << "all ages are there";
  EXPECT_EQ(actual.top.size(), std::min<size_t>(3, expected.by_chunk.size()));
  std::vector<double> shares;
  for (const auto& [chunk, share] : expected.by_chunk) {
    shares.push_back(share);
  }
  std::sort(shares.rbegin(), shares.rend());
  for (size_t i = 0; i < actual.top.size(); ++i) {
    EXPECT_NEAR(actual.top[i].share, shares[i], kBound);
    EXPECT_NEAR(actual.top[i].share, expected.by_chunk.at(actual.top[i].chunk), kBound);
  }
}

// What the summaries of chunks before `chunks` read, all of them.
void ExpectReads(const HeadShares& actual, const std::vector<NaiveRow>& rows, int32_t live_chunks) {
  std::vector<double> by_token(actual.summary_reads.size(), 0.0);
  double summaries = 0;
  double count = 0;
  for (const NaiveRow& query : rows) {
    if (!query.is_summary || query.chunk >= live_chunks) {
      continue;
    }
    count += 1;
    for (size_t j = 0; j < rows.size(); ++j) {
      const double weight = query.weights[static_cast<size_t>(actual.head)][j];
      (rows[j].is_summary ? summaries : by_token[static_cast<size_t>(rows[j].index) % by_token.size()]) += weight;
    }
  }
  ASSERT_GT(count, 0);
  for (size_t i = 0; i < by_token.size(); ++i) {
    EXPECT_NEAR(actual.summary_reads[i], by_token[i] / count, kBound) << "token " << i << " of a chunk";
  }
  EXPECT_NEAR(actual.summary_reads_summaries, summaries / count, kBound);
}

struct Asked {
  AttentionAnswer answer;
  SummaryLayout layout;
};

Asked Ask(testing::ModelHarness& harness, const ModelCase& c, std::vector<int32_t> tokens, std::vector<int32_t> rows) {
  testing::GuardAllocator allocator;
  const auto count = static_cast<int32_t>(tokens.size());
  const ExecContext cx = {.tape = nullptr, .stream = {}, .allocator = &allocator};
  const Tensor ids = cx.Empty({count}, DType::kI32);
  std::copy(tokens.begin(), tokens.end(), ids.As<int32_t>());
  const KsaModel::Input input = {.ids = ids, .layout = MakeLayout(c.config, 1, count), .mix = c.mix};
  return {MeasureAttention(harness.model(), cx, input, {std::move(rows), 3}), input.layout};
}

TEST(AttentionShares, AreThoseOfTheNaiveModel) {
  int compared = 0;
  int with_summaries = 0;
  int with_reads = 0;
  for (const ModelCase& c : testing::ModelCases()) {
    SCOPED_TRACE(c.name);
    testing::ModelHarness harness(c, DType::kF64);
    const std::vector<int32_t> tokens = harness.TokensOf(harness.places().front());
    const auto count = static_cast<int32_t>(tokens.size());
    std::vector<int32_t> all(tokens.size());
    std::iota(all.begin(), all.end(), 0);
    if (count < 4) {
      continue;  // three rows are chosen below
    }
    for (const std::vector<int32_t>& rows : {all, std::vector<int32_t>{0, count / 2, count - 1}}) {
      const Asked asked = Ask(harness, c, tokens, rows);
      const auto naive = testing::NaiveAttention(c.config, harness.store(), tokens, c.mix);
      for (const HeadShares& head : asked.answer.heads) {
        SCOPED_TRACE(::testing::Message() << "layer " << head.layer << ", head " << head.head);
        const std::vector<NaiveRow>& layer = naive[static_cast<size_t>(head.layer)];
        double total = head.window + head.own;
        for (const AgeShare& age : head.summaries_by_age) {
          total += age.share;
        }
        EXPECT_NEAR(total, 1.0, kBound);
        if (layer.front().weights.empty()) {
          continue;  // entries are no rows of the naive model
        }
        ++compared;
        ExpectSpent(head, Spent(layer, rows, static_cast<size_t>(head.head)));
        with_summaries += head.summaries_by_age.empty() ? 0 : 1;
        // As many summary rows are taken as text rows: where there are no more, all of them.
        const bool all_read = asked.layout.live_summaries() <= static_cast<int32_t>(rows.size());
        if (!head.summary_reads.empty() && all_read) {
          ++with_reads;
          ExpectReads(head, layer, asked.layout.live_chunks);
        }
      }
    }
  }
  EXPECT_GT(compared, 50);
  EXPECT_GT(with_summaries, 20);
  EXPECT_GT(with_reads, 5);
}

TEST(RowsThatSeeSummaries, BeginBehindTheWindow) {
  const ModelConfig ksa = testing::FindCase("ksa, m 2, GQA, everything own").config;
  const int64_t first = (int64_t{ksa.MinKsaWindow()} + 1) * ksa.ChunkSize();
  const std::vector<int32_t> rows = RowsThatSeeSummaries(ksa, 1000, 10);
  ASSERT_EQ(rows.size(), 10U);
  EXPECT_GE(rows.front(), first);
  EXPECT_EQ(rows.back(), 999);
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  EXPECT_EQ(RowsThatSeeSummaries(ksa, static_cast<int32_t>(first) + 2, 10),
            (std::vector<int32_t>{static_cast<int32_t>(first), static_cast<int32_t>(first) + 1}));
  EXPECT_EQ(RowsThatSeeSummaries(ksa, 3, 10), (std::vector<int32_t>{0, 1, 2})) << "none does: all";
}

}  // namespace
}  // namespace ksa
