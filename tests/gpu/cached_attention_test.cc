// Attention to kept keys, and moves of rows, on the GPU against the CPU.
#include "kernels/cache/cached_attention.h"

#include <algorithm>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/cache/move_rows.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using testing::GpuTest;

struct Shape3 {
  int64_t heads;
  int64_t key_heads;
  int64_t e;
  int64_t c;
  bool own_values;
};

// [n][kKeySpans · 2]; of 3000 kept and 2 new rows.
const std::vector<std::vector<int32_t>> kSpans = {{0, 1, 0, 0, 0, 0, 0, 0},
                                                  {2500, 500, 0, 1524, 2000, 113, 0, 2},
                                                  {7, 256, 0, 0, 0, 0, 0, 0},
                                                  {7, 256, 0, 0, 0, 0, 1, 1},
                                                  {0, 0, 0, 0, 0, 0, 0, 0},
                                                  {5, 100, 1, 100, 200, 800, 0, 0}};
constexpr int64_t kMostKeys = 2139;

class GpuCachedAttention : public GpuTest {
 protected:
  struct Inputs {
    Tensor q, k, v, new_k, new_v;
  };

  [[nodiscard]] Tensor Spans() {
    const auto n = static_cast<int64_t>(kSpans.size());
    const Tensor spans = Tensor::Empty({n, kKeySpans, 2}, DType::kI32, host());
    for (int64_t i = 0; i < n; ++i) {
      std::copy(kSpans[static_cast<size_t>(i)].begin(),
                kSpans[static_cast<size_t>(i)].end(),
                spans.As<int32_t>() + i * kKeySpans * 2);
    }
    return spans;
  }

  [[nodiscard]] Tensor Run(
      const Inputs& in, const Tensor& spans, const Shape3& shape, Allocator& memory, const Stream& on) {
    const Tensor out = Tensor::Empty({in.q.rows(), shape.heads, shape.c}, in.q.dtype(), memory);
    CachedAttention({.q = in.q,
                     .k = in.k,
                     .v = in.v,
                     .new_k = in.new_k,
                     .new_v = in.new_v,
                     .spans = spans,
                     .out = out,
                     .most_keys = kMostKeys,
                     .allocator = &memory},
                    on);
    return out;
  }

  void ExpectAsOnTheCpu(const Shape3& shape, DType dtype) {
    SCOPED_TRACE(fmt::format("{} heads of {}, {} of keys, {}", shape.heads, shape.e, shape.key_heads, NameOf(dtype)));
    const auto n = static_cast<int64_t>(kSpans.size());
    Inputs plain = {.q = testing::Normal("q", {n, shape.heads, shape.e}, dtype, host()),
                    .k = testing::Normal("k", {3000, shape.key_heads, shape.e}, dtype, host()),
                    .v = {},
                    .new_k = testing::Normal("new k", {2, shape.key_heads, shape.e}, dtype, host()),
                    .new_v = {}};
    if (shape.own_values) {
      plain.v = testing::Normal("v", {3000, shape.key_heads, shape.c}, dtype, host());
      plain.new_v = testing::Normal("new v", {2, shape.key_heads, shape.c}, dtype, host());
    }
    const auto each = [&](const auto& make) {
      return Inputs{make(plain.q), make(plain.k), make(plain.v), make(plain.new_k), make(plain.new_v)};
    };
    const Inputs exact = each([&](const Tensor& x) { return Cast(x, DType::kF64); });
    const Inputs actual = each([&](const Tensor& x) { return ToGpu(x); });
    const Tensor spans = Spans();
    const Tensor gpu_spans = ToGpu(spans);
    testing::ExpectAsAccurate(ToCpu(Run(actual, gpu_spans, shape, device(), stream())),
                              Run(plain, spans, shape, host(), {}),
                              Run(exact, spans, shape, host(), {}),
                              "the output",
                              dtype == DType::kF32 ? 4.0 : 1.0);  // exponentials err by a rounding or two
    ExpectRepeats([&] { return std::vector<Tensor>{Run(actual, gpu_spans, shape, device(), stream())}; });
  }
};

TEST_F(GpuCachedAttention, IsAsAccurateAsOnTheCpu) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const Shape3& shape : {Shape3{16, 16, 128, 128, true},
                                Shape3{8, 2, 64, 64, true},
                                Shape3{4, 4, 20, 12, true},
                                Shape3{3, 1, 17, 13, false},
                                Shape3{6, 1, 192, 160, false},
                                Shape3{70, 2, 576, 512, false},  // more heads than a block takes
                                Shape3{2, 2, 8, 1100, true}}) {
      ExpectAsOnTheCpu(shape, dtype);
    }
  }
}

TEST_F(GpuCachedAttention, RowsMoveAsOnTheCpu) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const int64_t columns : {1, 3, 8, 136}) {
      const Tensor from = testing::Normal("from", {50, columns}, dtype, host());
      const Tensor from_rows = testing::Integers("from rows", {20}, 0, 50, host());
      const Tensor to_rows = Tensor::Empty({20}, DType::kI32, host());
      for (int32_t i = 0; i < 20; ++i) {
        to_rows.As<int32_t>()[i] = (i * 7 + 3) % 31;  // 31 is prime: no row twice
      }
      const Tensor expected = testing::Normal("to", {31, columns}, dtype, host());
      const Tensor actual = ToGpu(expected);
      MoveRows({.from = from, .from_rows = from_rows, .to = expected, .to_rows = to_rows}, {});
      MoveRows({.from = ToGpu(from), .from_rows = ToGpu(from_rows), .to = actual, .to_rows = ToGpu(to_rows)}, stream());
      testing::ExpectSameBits(ToCpu(actual), expected, "rows that moved");
    }
  }
}

}  // namespace
}  // namespace ksa
