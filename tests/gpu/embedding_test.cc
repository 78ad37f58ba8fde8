#include "kernels/embedding/embedding.h"

#include <cmath>
#include <cstring>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/gpu/support.h"

namespace ksa {
namespace {

constexpr SummaryLayout kLayout = {
    .sequences = 3, .text_tokens = 13, .chunk_size = 4, .summary_tokens = 2, .live_chunks = 3};

class GpuEmbedding : public testing::GpuTest {
 protected:
  void CheckForward(const Tensor& ids, int64_t v, int64_t d, DType dtype, const SummaryLayout& layout) {
    const Tensor table = testing::Normal("table", {v, d}, dtype, host());
    const Tensor summaries = testing::Normal("summaries", {layout.summary_tokens, d}, dtype, host());
    const Tensor want = Tensor::Empty({layout.rows(), d}, dtype, host());
    EmbeddingForward({.ids = ids, .table = table, .summary_table = summaries, .y = want, .layout = layout}, {});
    const Tensor y = Tensor::Empty({layout.rows(), d}, dtype, device());
    EmbeddingForward(
        {.ids = ToGpu(ids), .table = ToGpu(table), .summary_table = ToGpu(summaries), .y = y, .layout = layout},
        stream());
    testing::ExpectSameBits(ToCpu(y), want, "y");
  }

  // The same call on the CPU in fp64 and in `dtype`, and twice on the GPU.
  void CheckBackward(const Tensor& ids, int64_t v, int64_t d, DType dtype, const SummaryLayout& layout) {
    SCOPED_TRACE(fmt::format("{} ids of {}, d {}, {}", ids.size(), v, d, NameOf(dtype)));
    const Tensor dy = testing::Normal("dy", {layout.rows(), d}, dtype, host());
    const Tensor start = testing::Normal("dtable", {v, d}, DType::kF32, host());
    const Tensor start_summary = testing::Normal("dsummary", {layout.summary_tokens, d}, DType::kF32, host());
    const auto on_cpu = [&](DType type) {
      std::vector<Tensor> out = {Cast(start, AccumulationType(type)), Cast(start_summary, AccumulationType(type))};
      EmbeddingBackward(
          {.ids = ids, .dy = Cast(dy, type), .dtable = out[0], .dsummary_table = out[1], .layout = layout}, {});
      return out;
    };
    const auto on_gpu = [&] {
      const std::vector<Tensor> out = {ToGpu(start), ToGpu(start_summary)};
      EmbeddingBackward({.ids = ToGpu(ids),
                         .dy = ToGpu(dy),
                         .dtable = out[0],
                         .dsummary_table = out[1],
                         .layout = layout,
                         .allocator = &device()},
                        stream());
      return std::vector<Tensor>{ToCpu(out[0]), ToCpu(out[1])};
    };
    const std::vector<Tensor> exact = on_cpu(DType::kF64);
    const std::vector<Tensor> plain = on_cpu(dtype);
    const std::vector<Tensor> gpu = on_gpu();
    const std::vector<Tensor> again = on_gpu();
    for (size_t i = 0; i < 2; ++i) {
      testing::ExpectAsAccurate(gpu[i], plain[i], exact[i], i == 0 ? "dtable" : "dsummary_table", 2.0);
      testing::ExpectSameBits(gpu[i], again[i], "a second run");
    }
  }
};

TEST_F(GpuEmbedding, ReadsItsRow) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t d : {1, 7, 8, 1000, 2048, 2056}) {
      CheckForward(testing::Integers("ids", {kLayout.text_rows()}, 0, 11, host()), 11, d, dtype, kLayout);
    }
  }
}

TEST_F(GpuEmbedding, GradientAddsUp) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t d : {1, 7, 8, 1000, 2048}) {
      CheckBackward(testing::Integers("ids", {kLayout.text_rows()}, 0, 11, host()), 11, d, dtype, kLayout);
    }
    for (const int32_t rows : {0, 1, 31, 32, 33, 64, 65, 1033, 5000}) {
      const SummaryLayout text = {.sequences = 1, .text_tokens = rows, .chunk_size = 8};
      for (const int32_t used : {1, 2, 257, 70000}) {  // one id for all, bytes, mostly different
        const int32_t table = std::max(used, 300);
        CheckBackward(testing::Integers("ids", {rows}, 0, used, host()), table, rows > 100 ? 12 : 40, dtype, text);
      }
    }
  }
}

TEST_F(GpuEmbedding, LongRunsCrossManyRanges) {
  const SummaryLayout layout = {
      .sequences = 1, .text_tokens = 3000, .chunk_size = 8, .summary_tokens = 1, .live_chunks = 300};
  const Tensor ids = Tensor::Empty({3000}, DType::kI32, host());
  for (int32_t r = 0; r < 3000; ++r) {
    ids.As<int32_t>()[r] = r % 7 == 0 ? r % 64 : (r < 2900 ? 65535 : 256);
  }
  CheckBackward(ids, 65536, 8, DType::kBF16, layout);
  CheckBackward(ids, 65536, 3, DType::kF32, layout);
}

// Where rows with one id lie in one group, the order of additions is the CPU's: equal in bits.
TEST_F(GpuEmbedding, AddsInAscendingOrder) {
  const SummaryLayout layout = {.sequences = 1, .text_tokens = 32, .chunk_size = 8};
  const Tensor ids = testing::Integers("ids", {32}, 0, 5, host());
  const Tensor dy = testing::Normal("dy", {32, 64}, DType::kF32, host());
  const Tensor want = testing::Normal("dtable", {5, 64}, DType::kF32, host());
  const Tensor dtable = ToGpu(want);
  EmbeddingBackward({.ids = ids, .dy = dy, .dtable = want, .layout = layout}, {});
  EmbeddingBackward({.ids = ToGpu(ids), .dy = ToGpu(dy), .dtable = dtable, .layout = layout, .allocator = &device()},
                    stream());
  testing::ExpectSameBits(ToCpu(dtable), want, "dtable");
}

TEST_F(GpuEmbedding, ForeignIdsAreNanAndTouchNothing) {
  const SummaryLayout layout = {.sequences = 1, .text_tokens = 70, .chunk_size = 8};
  const Tensor ids = testing::Integers("ids", {70}, 0, 11, host());
  const std::vector<std::pair<int64_t, int32_t>> bad = {
      {3, -1}, {40, 11}, {41, INT32_MAX}, {60, INT32_MIN}, {69, 1 << 20}};
  Tensor good_dy = testing::Normal("dy", {70, 20}, DType::kBF16, host());
  const Tensor dy = testing::Clone(good_dy, host());
  for (const auto& [row, id] : bad) {  // the same as rows of zeros that belong to id 0
    for (int64_t c = 0; c < 20; ++c) {
      testing::SetElement(good_dy, row * 20 + c, 0.0);
    }
  }
  const Tensor want = testing::Normal("dtable", {11, 20}, DType::kF32, host());
  const Tensor dtable = ToGpu(want);
  const Tensor good = testing::Clone(ids, host());
  for (const auto& [row, id] : bad) {
    good.As<int32_t>()[row] = 0;
    ids.As<int32_t>()[row] = id;
  }
  const Tensor table = testing::Normal("table", {11, 20}, DType::kBF16, host());
  const Tensor y = Tensor::Empty({70, 20}, DType::kBF16, device());
  Zero(y, stream());
  EmbeddingForward({.ids = ToGpu(ids), .table = ToGpu(table), .y = y, .layout = layout}, stream());
  const Tensor back = ToCpu(y);
  for (int64_t r = 0; r < 70; ++r) {
    const bool foreign = std::any_of(bad.begin(), bad.end(), [&](const auto& b) { return b.first == r; });
    for (int64_t c = 0; c < 20; ++c) {
      EXPECT_EQ(std::isnan(testing::ElementAt(back, r * 20 + c)), foreign) << r << ", " << c;
    }
  }
  EmbeddingBackward({.ids = good, .dy = good_dy, .dtable = want, .layout = layout}, {});
  EmbeddingBackward({.ids = ToGpu(ids), .dy = ToGpu(dy), .dtable = dtable, .layout = layout, .allocator = &device()},
                    stream());
  EXPECT_LT(testing::RelativeDifference(testing::ToDouble(ToCpu(dtable)), testing::ToDouble(want)), 0x1p-20);
}

// A table in parts: every part does what it does on the CPU.
class GpuTableShard : public testing::GpuTest {
 protected:
  static constexpr int64_t kTextIds = 95;
  static constexpr int64_t kIds = 97;

  // How rows [first, last) of the table are one part; summaries start in it or in their own table.
  struct Part {
    TableShard shard;
    SummaryStart summaries;
    int64_t rows = 0;
  };

  static std::vector<Part> PartsOf(int64_t parts, bool extra_rows) {
    std::vector<Part> all;
    for (int64_t i = 0; i < parts; ++i) {
      const int64_t first = i * kIds / parts;
      all.push_back({.shard = {.first_id = first, .vocab = kIds},
                     .summaries = {.contributes = i == 0, .first_id = extra_rows ? kTextIds : SummaryStart::kOwnTable},
                     .rows = (i + 1) * kIds / parts - first});
    }
    return all;
  }

  void CheckForward(const Part& part, int64_t d, DType dtype) {
    const Tensor ids = testing::Integers("ids", {kLayout.text_rows()}, 0, kTextIds, host());
    const Tensor table = testing::Normal("table", {part.rows, d}, dtype, host());
    const Tensor summaries = testing::Normal("summaries", {kLayout.summary_tokens, d}, dtype, host());
    const bool own = part.summaries.first_id == SummaryStart::kOwnTable;
    const auto run =
        [&](const TensorView& i, const TensorView& t, const TensorView& s, const Stream& where, Allocator& m) {
          Tensor y = Tensor::Empty({kLayout.rows(), d}, dtype, m);
          EmbeddingForward({.ids = i,
                            .table = t,
                            .summary_table = own ? s : TensorView{},
                            .y = y,
                            .layout = kLayout,
                            .shard = part.shard,
                            .summaries = part.summaries},
                           where);
          return y;
        };
    const Tensor want = run(ids, table, summaries, {}, host());
    const Tensor y = run(ToGpu(ids), ToGpu(table), ToGpu(summaries), stream(), device());
    testing::ExpectSameBits(ToCpu(y), want, "y");
  }

  void CheckBackward(const Part& part, int64_t d, DType dtype) {
    const Tensor ids = testing::Integers("ids", {kLayout.text_rows()}, 0, kTextIds, host());
    const Tensor dy = testing::Normal("dy", {kLayout.rows(), d}, dtype, host());
    const Tensor start = testing::Normal("dtable", {part.rows, d}, DType::kF32, host());
    const Tensor start_summary = testing::Normal("dsummary", {kLayout.summary_tokens, d}, DType::kF32, host());
    const bool own = part.summaries.first_id == SummaryStart::kOwnTable;
    const auto run = [&](const Tensor& i, const Tensor& gradient, std::vector<Tensor> out, const Stream& where) {
      EmbeddingBackward({.ids = i,
                         .dy = gradient,
                         .dtable = out[0],
                         .dsummary_table = own ? out[1].view() : TensorView{},
                         .layout = kLayout,
                         .shard = part.shard,
                         .summaries = part.summaries,
                         .allocator = &device()},
                        where);
      return out;
    };
    const auto on_cpu = [&](DType type) {
      const DType wide = AccumulationType(type);
      return run(ids, Cast(dy, type), {Cast(start, wide), Cast(start_summary, wide)}, {});
    };
    const std::vector<Tensor> exact = on_cpu(DType::kF64);
    const std::vector<Tensor> plain = on_cpu(dtype);
    const std::vector<Tensor> gpu = run(ToGpu(ids), ToGpu(dy), {ToGpu(start), ToGpu(start_summary)}, stream());
    for (size_t i = 0; i < 2; ++i) {
      testing::ExpectAsAccurate(ToCpu(gpu[i]), plain[i], exact[i], i == 0 ? "dtable" : "dsummary_table", 2.0);
    }
  }
};

TEST_F(GpuTableShard, EveryPartIsThatOfTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t d : {7, 8, 1000}) {
      for (const int64_t parts : {1, 2, 3, 97}) {  // 97: the two summaries' rows in two parts
        for (const bool extra_rows : {false, true}) {
          const std::vector<Part> all = PartsOf(parts, extra_rows);
          for (const Part& part :
               {all.front(), all[all.size() / 2], all[all.size() - (parts > 1 ? 2 : 1)], all.back()}) {
            SCOPED_TRACE(fmt::format("{} parts, first id {}, d {}, {}, extra rows {}",
                                     parts,
                                     part.shard.first_id,
                                     d,
                                     NameOf(dtype),
                                     extra_rows));
            CheckForward(part, d, dtype);
            CheckBackward(part, d, dtype);
          }
        }
      }
    }
  }
}

TEST_F(GpuTableShard, OnlyIdsOutsideOfTheVocabularyAreNan) {
  const SummaryLayout layout = {.sequences = 1, .text_tokens = 5, .chunk_size = 8};
  const Tensor ids = Tensor::Empty({5}, DType::kI32, host());
  const int32_t numbers[] = {INT32_MIN, 0, 96, 97, 50};
  std::copy_n(numbers, 5, ids.As<int32_t>());
  const Tensor table = testing::Normal("table", {47, 20}, DType::kBF16, host());
  const Tensor y = Tensor::Empty({5, 20}, DType::kBF16, device());
  EmbeddingForward(
      {.ids = ToGpu(ids), .table = ToGpu(table), .y = y, .layout = layout, .shard = {.first_id = 50, .vocab = kIds}},
      stream());
  const Tensor back = ToCpu(y);
  for (const int64_t row : {0, 3}) {
    EXPECT_TRUE(std::isnan(testing::ElementAt(back, row * 20 + 3)));
  }
  EXPECT_EQ(testing::ElementAt(back, 20 + 3), 0.0);
  testing::ExpectSameBits(back.Rows(2, 1), table.Rows(46, 1), "the last row");
  testing::ExpectSameBits(back.Rows(4, 1), table.Rows(0, 1), "the first row");
}

}  // namespace
}  // namespace ksa
