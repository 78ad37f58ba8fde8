#include "kernels/embedding/embedding.h"

#include <cstring>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::Bounded;
using testing::BoundedValues;
using testing::GuardAllocator;

constexpr SummaryLayout kLayout = {
    .sequences = 3, .text_tokens = 13, .chunk_size = 4, .summary_tokens = 2, .live_chunks = 3};
constexpr SummaryLayout kTextOnly = {.sequences = 2, .text_tokens = 7, .chunk_size = 4};

// Which row of which table every row of the layout reads, walked in the order of the layout.
struct Source {
  bool summary;
  int64_t index;
};

std::vector<Source> Sources(const SummaryLayout& layout, const Tensor& ids) {
  std::vector<Source> sources;
  for (int64_t i = 0; i < ids.size(); ++i) {
    sources.push_back({false, ids.As<int32_t>()[i]});
  }
  for (int32_t q = 0; q < layout.sequences; ++q) {
    for (int32_t c = 0; c < layout.live_chunks; ++c) {
      for (int32_t a = 0; a < layout.summary_tokens; ++a) {
        sources.push_back({true, a});
      }
    }
  }
  return sources;
}

TEST(Embedding, ReadsItsRow) {
  for (const SummaryLayout& layout : {kLayout, kTextOnly}) {
    for (const DType dtype : testing::kFloatingTypes) {
      for (const int64_t d : {1, 7, 113}) {
        GuardAllocator memory;
        const Tensor ids = testing::Integers("ids", {layout.text_rows()}, 0, 11, memory);
        const Tensor table = testing::Normal("table", {11, d}, dtype, memory);
        const Tensor summaries = testing::Normal("summaries", {layout.summary_tokens, d}, dtype, memory);
        const Tensor y = Tensor::Empty({layout.rows(), d}, dtype, memory);
        EmbeddingForward({.ids = ids, .table = table, .summary_table = summaries, .y = y, .layout = layout}, {});
        const std::vector<Source> sources = Sources(layout, ids);
        ASSERT_EQ(static_cast<int64_t>(sources.size()), y.rows());
        for (int64_t r = 0; r < y.rows(); ++r) {
          const Source& source = sources[static_cast<size_t>(r)];
          testing::ExpectSameBits(y.Rows(r, 1), (source.summary ? summaries : table).Rows(source.index, 1), "row");
        }
      }
    }
  }
}

TEST(Embedding, GradientAddsUp) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t d : {1, 7, 113}) {
      GuardAllocator memory;
      const DType wide = AccumulationType(dtype);
      const Tensor ids = testing::Integers("ids", {kLayout.text_rows()}, 0, 11, memory);
      const Tensor dy = testing::Normal("dy", {kLayout.rows(), d}, dtype, memory);
      const Tensor dtable = testing::Normal("dtable", {12, d}, wide, memory);
      const Tensor dsummaries = testing::Normal("dsummaries", {2, d}, wide, memory);
      const BoundedValues gradient = testing::Exact(dy);
      const auto expect = [&](const Tensor& before, bool summary) {
        const std::vector<Source> sources = Sources(kLayout, ids);
        const BoundedValues start = testing::Exact(before);
        BoundedValues out;
        for (int64_t i = 0; i < before.size(); ++i) {
          testing::Sum sum;
          sum.Add(start[static_cast<size_t>(i)]);
          for (size_t r = 0; r < sources.size(); ++r) {
            if (sources[r].summary == summary && sources[r].index == i / d) {
              sum.Add(gradient[r * static_cast<size_t>(d) + static_cast<size_t>(i % d)]);
            }
          }
          out.push_back(sum.Result());
        }
        return out;
      };
      const BoundedValues want = expect(dtable, false);
      const BoundedValues want_summaries = expect(dsummaries, true);
      EmbeddingBackward({.ids = ids, .dy = dy, .dtable = dtable, .dsummary_table = dsummaries, .layout = kLayout}, {});
      testing::ExpectWithinBound(dtable, want, "dtable");
      testing::ExpectWithinBound(dsummaries, want_summaries, "dsummary_table");
    }
  }
}

// Two rows of one table may be its summary rows (tied extra ids), and summary gradients may be left out.
TEST(Embedding, SummaryTableInsideTheTable) {
  GuardAllocator memory;
  const Tensor ids = testing::Integers("ids", {kLayout.text_rows()}, 0, 9, memory);
  const Tensor dy = testing::Normal("dy", {kLayout.rows(), 5}, DType::kF64, memory);
  const Tensor whole = Tensor::Zeros({11, 5}, DType::kF64, memory);
  const Tensor text = Tensor::Zeros({11, 5}, DType::kF64, memory);
  const Tensor summaries = Tensor::Zeros({2, 5}, DType::kF64, memory);
  EmbeddingBackward({.ids = ids, .dy = dy, .dtable = whole, .dsummary_table = whole.Rows(9, 2), .layout = kLayout}, {});
  EmbeddingBackward({.ids = ids, .dy = dy, .dtable = text, .layout = kLayout}, {});
  EmbeddingBackward({.ids = ids,
                     .dy = dy,
                     .dtable = Tensor::Zeros({11, 5}, DType::kF64, memory),
                     .dsummary_table = summaries,
                     .layout = kLayout},
                    {});
  testing::ExpectSameBits(whole.Rows(0, 9), text.Rows(0, 9), "text rows");
  testing::ExpectSameBits(whole.Rows(9, 2), summaries, "summary rows");
}

TEST(Embedding, ThreadsDoNotMatter) {
  GuardAllocator memory;
  const SummaryLayout layout = {
      .sequences = 2, .text_tokens = 301, .chunk_size = 8, .summary_tokens = 1, .live_chunks = 30};
  const Tensor ids = testing::Integers("ids", {layout.text_rows()}, 0, 11, memory);
  for (const DType dtype : testing::kFloatingTypes) {
    const Tensor table = testing::Normal("table", {11, 37}, dtype, memory);
    const Tensor summaries = testing::Normal("summaries", {1, 37}, dtype, memory);
    const Tensor dy = testing::Normal("dy", {layout.rows(), 37}, dtype, memory);
    testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
      const Tensor y = Tensor::Empty({layout.rows(), 37}, dtype, memory);
      EmbeddingForward({.ids = ids, .table = table, .summary_table = summaries, .y = y, .layout = layout}, stream);
      const Tensor dtable = Tensor::Zeros({11, 37}, AccumulationType(dtype), memory);
      const Tensor dsummaries = Tensor::Zeros({1, 37}, AccumulationType(dtype), memory);
      EmbeddingBackward({.ids = ids, .dy = dy, .dtable = dtable, .dsummary_table = dsummaries, .layout = layout},
                        stream);
      return std::vector<Tensor>{y, dtable, dsummaries};
    });
  }
}

TEST(Embedding, RefusesForeignIds) {
  GuardAllocator memory;
  const Tensor table = testing::Normal("table", {11, 3}, DType::kF32, memory);
  const Tensor y = Tensor::Empty({kTextOnly.rows(), 3}, DType::kF32, memory);
  for (const int32_t bad : {-1, 11, INT32_MAX}) {
    const Tensor ids = testing::Integers("ids", {kTextOnly.text_rows()}, 0, 11, memory);
    ids.As<int32_t>()[9] = bad;
    try {
      EmbeddingForward({.ids = ids, .table = table, .y = y, .layout = kTextOnly}, {});
      FAIL() << "read row " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadData);
      EXPECT_NE(std::strstr(error.what(), fmt::format("token id {} at text row 9", bad).c_str()), nullptr);
    }
    const Tensor dtable = Tensor::Zeros({11, 3}, DType::kF32, memory);
    const Tensor dy = testing::Normal("dy", {kTextOnly.rows(), 3}, DType::kF32, memory);
    EXPECT_THROW(EmbeddingBackward({.ids = ids, .dy = dy, .dtable = dtable, .layout = kTextOnly}, {}), Error);
  }
  const Tensor ids = testing::Integers("ids", {kLayout.text_rows()}, 0, 11, memory);
  const Tensor rows = Tensor::Empty({kLayout.rows(), 3}, DType::kF32, memory);
  EXPECT_THROW(EmbeddingForward({.ids = ids, .table = table, .y = rows, .layout = kLayout}, {}), Error);
}

}  // namespace
}  // namespace ksa
