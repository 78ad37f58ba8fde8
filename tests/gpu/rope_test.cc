#include <array>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/rope/qk_norm_rope.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

struct Case {
  int64_t heads = 3;
  int64_t head_dim = 64;
  DType dtype = DType::kBF16;
  bool norm = true;
  bool two_weights = true;
  SummaryLayout layout;
  int64_t first_row = 0;
};

// All tensors of a forward and a backward call.
struct Call {
  SummaryLayout layout;
  int64_t first_row = 0;
  int64_t split = 0;
  Allocator* scratch = nullptr;
  Tensor x, weight, weight_summary, table, dy, dweight, dweight_summary;
  Tensor y, rstd, dx;

  void Run(const Stream& stream) const {
    QkNormRopeForward({.x = x,
                       .weight = weight,
                       .weight_summary = weight_summary,
                       .table = table,
                       .y = y,
                       .rstd = rstd,
                       .layout = layout,
                       .first_row = first_row,
                       .split = split,
                       .eps = 1e-5},
                      stream);
    QkNormRopeBackward({.dy = dy,
                        .x = x,
                        .rstd = rstd,
                        .weight = weight,
                        .weight_summary = weight_summary,
                        .table = table,
                        .dx = dx,
                        .dweight = dweight,
                        .dweight_summary = dweight_summary,
                        .layout = layout,
                        .first_row = first_row,
                        .split = split,
                        .accumulate = true,
                        .accumulate_summary = false,
                        .allocator = scratch},
                       stream);
  }
};

class GpuRope : public testing::GpuTest {
 protected:
  Call Plain(const Case& c) {
    const int64_t n = c.layout.rows() - c.first_row;
    const DType wide = AccumulationType(c.dtype);
    const Shape shape{n, c.heads, c.head_dim};
    Call call{.layout = c.layout,
              .first_row = c.first_row,
              .split = std::max<int64_t>(0, c.layout.text_rows() - c.first_row),
              .x = testing::Normal("x", shape, c.dtype, host()),
              .table = Tensor::Empty({c.layout.text_tokens, c.head_dim / 2, 2}, DType::kF64, host()),
              .dy = testing::Normal("dy", shape, c.dtype, host())};
    FillRopeTable(call.table, 10000.0, {});
    call.table = Cast(call.table, wide);
    if (c.norm) {
      call.weight = testing::Normal("weight", {c.head_dim}, c.dtype, host());
      call.dweight = testing::Normal("dweight", {c.head_dim}, wide, host());
      if (c.two_weights) {
        call.weight_summary = testing::Normal("weight_summary", {c.head_dim}, c.dtype, host());
        call.dweight_summary = testing::Normal("dweight_summary", {c.head_dim}, wide, host());
      }
    }
    MakeOutputs(call, host());
    return call;
  }

  template <typename Map>
  static Call Mapped(const Call& from, Allocator& memory, const Map& map) {
    Call call{.layout = from.layout,
              .first_row = from.first_row,
              .split = from.split,
              .scratch = &memory,
              .x = map(from.x),
              .weight = map(from.weight),
              .weight_summary = map(from.weight_summary),
              .table = map(from.table),
              .dy = map(from.dy),
              .dweight = map(from.dweight),
              .dweight_summary = map(from.dweight_summary)};
    MakeOutputs(call, memory);
    return call;
  }

  static void MakeOutputs(Call& call, Allocator& memory) {
    call.y = Tensor::Empty(call.x.shape(), call.x.dtype(), memory);
    call.dx = Tensor::Empty(call.x.shape(), call.x.dtype(), memory);
    if (!call.weight.empty()) {
      call.rstd = Tensor::Empty({call.x.rows(), call.x.shape()[1]}, AccumulationType(call.x.dtype()), memory);
    }
  }

  // Fresh inputs for every run: the text weight's gradient is added to.
  void Check(const Case& c) {
    SCOPED_TRACE(fmt::format("{} rows, {} heads of {}, {}, norm {}, two weights {}, first row {}",
                             c.layout.rows(),
                             c.heads,
                             c.head_dim,
                             NameOf(c.dtype),
                             c.norm,
                             c.two_weights,
                             c.first_row));
    const Call plain = Plain(c);
    const Call exact =
        Mapped(plain, host(), [&](const Tensor& x) { return x.empty() ? Tensor() : Cast(x, DType::kF64); });
    const auto to_gpu = [&](const Tensor& x) { return ToGpu(x); };
    Call gpu = Mapped(plain, device(), to_gpu);
    Call again = Mapped(plain, device(), to_gpu);
    const Tensor first_chunks = ToGpu(Chunks(c.layout.document_first_chunk, c.layout));
    const Tensor tokens = ToGpu(Chunks(c.layout.chunk_tokens, c.layout));
    for (Call* call : {&gpu, &again}) {
      call->layout.document_first_chunk = first_chunks.As<int32_t>();
      call->layout.chunk_tokens = tokens.As<int32_t>();
      call->Run(stream());
    }
    plain.Run({});
    exact.Run({});
    testing::ExpectAsAccurate(ToCpu(gpu.y), plain.y, exact.y, "y");
    testing::ExpectAsAccurate(ToCpu(gpu.dx), plain.dx, exact.dx, "dx");
    testing::ExpectSameBits(ToCpu(gpu.y), ToCpu(again.y), "a second run's y");
    testing::ExpectSameBits(ToCpu(gpu.dx), ToCpu(again.dx), "a second run's dx");
    for (const auto& [sum, plain_sum, exact_sum, second] :
         {std::tuple{gpu.dweight, plain.dweight, exact.dweight, again.dweight},
          std::tuple{gpu.dweight_summary, plain.dweight_summary, exact.dweight_summary, again.dweight_summary}}) {
      if (!sum.empty()) {
        // A sum's roundings follow the size of its parts, which for n random terms is the root of n.
        const double units = 2.0 + std::sqrt(static_cast<double>(plain.x.rows() * c.heads));
        testing::ExpectAsAccurate(ToCpu(sum), plain_sum, exact_sum, "dweight", units);
        testing::ExpectSameBits(ToCpu(sum), ToCpu(second), "a second run's dweight");
      }
    }
  }

  TensorView Chunks(const int32_t* data, const SummaryLayout& layout) const {
    return {const_cast<int32_t*>(data), DType::kI32, {}, {layout.sequences, layout.chunks()}};
  }
};

constexpr SummaryLayout kSmall = {
    .sequences = 2, .text_tokens = 13, .chunk_size = 4, .summary_tokens = 2, .live_chunks = 2};
constexpr SummaryLayout kLong = {
    .sequences = 1, .text_tokens = 1033, .chunk_size = 8, .summary_tokens = 1, .live_chunks = 121};

TEST_F(GpuRope, TableIsTheCpus) {
  const Tensor want = Tensor::Empty({3001, 7, 2}, DType::kF32, host());
  const Tensor table = Tensor::Empty({3001, 7, 2}, DType::kF32, device());
  FillRopeTable(want, 1e6, {});
  FillRopeTable(table, 1e6, stream());
  // Both round the same angle in double; powers and cosines may differ in their last bit.
  EXPECT_LT(testing::RelativeDifference(testing::ToDouble(ToCpu(table)), testing::ToDouble(want)), 0x1p-23);
}

TEST_F(GpuRope, AsAccurateAsTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t head_dim : {2, 6, 16, 24, 32, 64, 96, 128, 130, 256, 512}) {
      for (const int64_t heads : {1, 3, 5}) {
        Case c{.heads = heads, .head_dim = head_dim, .dtype = dtype, .layout = kSmall};
        Check(c);
        c.two_weights = false;
        Check(c);
        c.norm = false;
        Check(c);
      }
    }
    Check({.heads = 16, .head_dim = 128, .dtype = dtype, .layout = kLong});
    Check({.heads = 33, .head_dim = 64, .dtype = dtype, .two_weights = false, .layout = kLong});
    Check({.heads = 3, .head_dim = 6, .dtype = dtype, .layout = kLong});
    Check({.heads = 5, .head_dim = 128, .dtype = dtype, .norm = false, .layout = kLong});
  }
}

TEST_F(GpuRope, RowsFromTheMiddleOfALayout) {
  for (const int64_t head_dim : {6, 64}) {
    for (const int64_t first_row : {5, 26, 34}) {  // text and summaries, summaries alone, nothing
      Check({.head_dim = head_dim, .layout = kSmall, .first_row = first_row});
    }
  }
}

TEST_F(GpuRope, DocumentsAndOtherPositions) {
  const std::array<int32_t, 8> first_chunk = {0, 0, 2, 2, 0, 1, 1, 1};
  const std::array<int32_t, 8> tokens = {4, 3, 4, 1, 2, 4, 4, 1};
  for (const TextPositions text : {TextPositions::kOrigin, TextPositions::kInnerChunk, TextPositions::kZero}) {
    for (const SummaryPositions summary :
         {SummaryPositions::kChunkEnd, SummaryPositions::kChunkStart, SummaryPositions::kZero}) {
      SummaryLayout layout = kSmall;
      layout.text_positions = text;
      layout.summary_positions = summary;
      layout.document_first_chunk = first_chunk.data();
      layout.chunk_tokens = tokens.data();
      Check({.head_dim = 128, .layout = layout});
      Check({.head_dim = 6, .layout = layout});
    }
  }
}

TEST_F(GpuRope, TablesThatAreTooShortAreRefused) {
  const Tensor x = ToGpu(testing::Normal("x", {34, 1, 16}, DType::kF32, host()));
  const Tensor table = Tensor::Empty({12, 8, 2}, DType::kF32, device());
  const Tensor chunks = ToGpu(testing::Integers("chunks", {2, 4}, 0, 1, host()));
  SummaryLayout layout = kSmall;
  EXPECT_THROW(QkNormRopeForward({.x = x, .table = table, .y = x, .layout = layout}, stream()), Error);
  layout.document_first_chunk = chunks.As<int32_t>();
  layout.chunk_tokens = chunks.As<int32_t>();
  EXPECT_THROW(QkNormRopeForward({.x = x, .table = table, .y = x, .layout = layout}, stream()), Error);
}

}  // namespace
}  // namespace ksa
