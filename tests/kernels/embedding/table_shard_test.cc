// The embedding of a table whose rows are spread over parts: together they are the whole.
#include <cstring>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/embedding/embedding.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::GuardAllocator;

constexpr SummaryLayout kLayout = {
    .sequences = 3, .text_tokens = 13, .chunk_size = 4, .summary_tokens = 2, .live_chunks = 3};
constexpr int64_t kTextIds = 95;
constexpr int64_t kIds = 97;  // the last two may start summaries

struct Problem {
  Problem(int64_t dim, DType type, Allocator& allocator) : d(dim), dtype(type), memory(allocator) {
    ids = testing::Integers("ids", {kLayout.text_rows()}, 0, kTextIds, memory);
    table = testing::Normal("table", {kIds, d}, dtype, memory);
    summaries = testing::Normal("summaries", {2, d}, dtype, memory);
    dy = testing::Normal("dy", {kLayout.rows(), d}, dtype, memory);
    dtable = testing::Normal("dtable", {kIds, d}, AccumulationType(dtype), memory);
    dsummaries = testing::Normal("dsummaries", {2, d}, AccumulationType(dtype), memory);
  }

  // Rows [first, last) of the table; summaries start there (`extra_rows`) or in their own table.
  [[nodiscard]] Tensor Forward(int64_t first, int64_t last, bool extra_rows) const {
    Tensor y = Tensor::Empty({kLayout.rows(), d}, dtype, memory);
    EmbeddingForward(
        {.ids = ids,
         .table = table.Rows(first, last - first),
         .summary_table = extra_rows ? TensorView() : summaries.view(),
         .y = y,
         .layout = kLayout,
         .shard = {.first_id = first, .vocab = kIds},
         .summaries = {.contributes = first == 0, .first_id = extra_rows ? kTextIds : SummaryStart::kOwnTable}},
        {});
    return y;
  }

  // The gradients of these rows, and of the summaries' own table.
  [[nodiscard]] std::pair<Tensor, Tensor> Backward(int64_t first, int64_t last, bool extra_rows) const {
    Tensor rows = testing::Clone(dtable.Rows(first, last - first), memory);
    Tensor own = testing::Clone(dsummaries, memory);
    EmbeddingBackward(
        {.ids = ids,
         .dy = dy,
         .dtable = rows,
         .dsummary_table = extra_rows ? TensorView() : own.view(),
         .layout = kLayout,
         .shard = {.first_id = first, .vocab = kIds},
         .summaries = {.contributes = first == 0, .first_id = extra_rows ? kTextIds : SummaryStart::kOwnTable}},
        {});
    return {std::move(rows), std::move(own)};
  }

  int64_t d;
  DType dtype;
  Allocator& memory;
  Tensor ids, table, summaries, dy, dtable, dsummaries;
};

void CheckParts(const Problem& p, int64_t parts, bool extra_rows) {
  SCOPED_TRACE(fmt::format("{} parts, d {}, {}, extra rows {}", parts, p.d, NameOf(p.dtype), extra_rows));
  const std::vector<double> whole = testing::ToDouble(p.Forward(0, kIds, extra_rows));
  const auto [whole_rows, whole_summaries] = p.Backward(0, kIds, extra_rows);
  std::vector<double> sum(whole.size());
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * kIds / parts;
    const int64_t last = (part + 1) * kIds / parts;
    const std::vector<double> y = testing::ToDouble(p.Forward(first, last, extra_rows));
    for (size_t i = 0; i < y.size(); ++i) {
      EXPECT_TRUE(y[i] == 0.0 || sum[i] == 0.0) << "two parts give element " << i;
      sum[i] += y[i];
    }
    const auto [rows, summaries] = p.Backward(first, last, extra_rows);
    testing::ExpectSameBits(rows, whole_rows.Rows(first, last - first), "dtable");
    testing::ExpectSameBits(summaries, whole_summaries, "dsummary_table");
  }
  EXPECT_EQ(sum, whole);
}

TEST(TableShard, PartsAddUpToTheWhole) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t d : {1, 7, 113}) {
      GuardAllocator memory;
      const Problem p(d, dtype, memory);
      for (const int64_t parts : {2, 3, 6, 97}) {  // 97: the two summaries' rows in two parts
        CheckParts(p, parts, false);
        CheckParts(p, parts, true);
      }
    }
  }
}

// The same as a summary table that is a view of the table's last rows.
TEST(TableShard, SummariesAsExtraRows) {
  GuardAllocator memory;
  Problem p(5, DType::kF32, memory);
  const Tensor y = p.Forward(0, kIds, true);
  const auto [rows, unused] = p.Backward(0, kIds, true);
  const Tensor want_rows = testing::Clone(p.dtable, memory);
  EmbeddingBackward(
      {.ids = p.ids, .dy = p.dy, .dtable = want_rows, .dsummary_table = want_rows.Rows(kTextIds, 2), .layout = kLayout},
      {});
  testing::ExpectSameBits(rows, want_rows, "dtable");
  testing::ExpectSameBits(unused, p.dsummaries, "dsummary_table");
  p.summaries = testing::Clone(p.table.Rows(kTextIds, 2), memory);
  testing::ExpectSameBits(p.Forward(0, kIds, false), y, "y");
}

TEST(TableShard, RefusesIdsOutsideOfTheVocabulary) {
  GuardAllocator memory;
  const Problem p(3, DType::kF32, memory);
  for (const int32_t bad : {-1, static_cast<int32_t>(kIds)}) {
    const Problem wrong(3, DType::kF32, memory);
    wrong.ids.As<int32_t>()[9] = bad;
    try {
      (void)wrong.Forward(0, 50, false);
      FAIL() << "read row " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadData);
      EXPECT_NE(std::strstr(error.what(), "but the embedding has 97 rows"), nullptr) << error.what();
    }
    EXPECT_THROW((void)wrong.Backward(50, kIds, false), Error);
  }
  const Tensor y = Tensor::Empty({kLayout.rows(), 3}, DType::kF32, memory);
  EmbeddingForwardArgs args{.ids = p.ids,
                            .table = p.table,
                            .summary_table = p.summaries,
                            .y = y,
                            .layout = kLayout,
                            .shard = {.first_id = 1}};
  EXPECT_THROW(EmbeddingForward(args, {}), Error);  // past the end
  args.shard = {};
  args.summaries.first_id = kIds - 1;
  EXPECT_THROW(EmbeddingForward(args, {}), Error);  // one row for two summaries
}

}  // namespace
}  // namespace ksa
