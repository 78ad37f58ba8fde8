// Heads made of latents against plain loops in double.
#include "kernels/latent/latent_heads.h"

#include <cmath>
#include <vector>

#include "kernels/rope/qk_norm_rope.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

constexpr double kTheta = 100.0;

SummaryLayout Layout() {
  return {.sequences = 2, .text_tokens = 7, .chunk_size = 3, .summary_tokens = 1, .live_chunks = 2};
}

double Bound(DType dtype) {
  return dtype == DType::kF64 ? 1e-14 : dtype == DType::kF32 ? 1e-6 : 8e-3;
}

TEST(LatentHeads, TailsAreRotatedByTheirPositions) {
  for (const DType dtype : kFloatingTypes) {
    for (const int64_t nope : {0, 1, 5}) {
      GuardAllocator memory;
      const SummaryLayout layout = Layout();
      constexpr int64_t kRope = 4;
      constexpr int64_t kHeads = 3;
      const int64_t e = nope + kRope;
      const Tensor x = Normal("x", {layout.rows(), kHeads, e}, dtype, memory);
      const Tensor y = Tensor::Empty(x.shape(), dtype, memory);
      const Tensor table = Tensor::Empty({7, kRope / 2, 2}, AccumulationType(dtype), memory);
      FillRopeTable(table, kTheta, {});
      RotateTails({.x = x, .table = table, .y = y, .layout = layout}, {});
      std::vector<double> expected = ToDouble(x);
      for (int64_t row = 0; row < x.rows(); ++row) {
        for (int64_t head = 0; head < kHeads; ++head) {
          double* tail = expected.data() + (row * kHeads + head) * e + nope;
          for (int64_t i = 0; i < kRope / 2; ++i) {
            const double angle = layout.Position(row) * std::pow(kTheta, -2.0 * static_cast<double>(i) / kRope);
            const double first = tail[i];
            const double second = tail[i + kRope / 2];
            tail[i] = first * std::cos(angle) - second * std::sin(angle);
            tail[i + kRope / 2] = second * std::cos(angle) + first * std::sin(angle);
          }
        }
      }
      EXPECT_LT(RelativeDifference(ToDouble(y), expected), Bound(dtype));
      RotateTails({.x = y, .table = table, .y = y, .layout = layout, .inverse = true}, {});
      EXPECT_LT(RelativeDifference(ToDouble(y), ToDouble(x)), 2.0 * Bound(dtype)) << "back, in place";
    }
  }
}

TEST(LatentHeads, KeysShareTheirRotaryPart) {
  constexpr int64_t kRows = 5;
  constexpr int64_t kHeads = 3;
  constexpr int64_t kNope = 4;
  constexpr int64_t kRope = 2;
  constexpr int64_t kValues = 6;
  for (const DType dtype : kFloatingTypes) {
    GuardAllocator memory;
    const Tensor kv = Normal("kv", {kRows, kHeads, kNope + kValues}, dtype, memory);
    const Tensor rope = Normal("rope", {kRows, kRope}, dtype, memory);
    const Tensor k = Tensor::Empty({kRows, kHeads, kNope + kRope}, dtype, memory);
    const Tensor v = Tensor::Empty({kRows, kHeads, kValues}, dtype, memory);
    LatentHeadsForward({.kv = kv, .rope = rope, .k = k, .v = v}, {});
    const Tensor dk = Normal("dk", k.shape(), dtype, memory);
    const Tensor dv = Normal("dv", v.shape(), dtype, memory);
    const Tensor dkv = Tensor::Empty(kv.shape(), dtype, memory);
    const Tensor drope = Tensor::Empty(rope.shape(), dtype, memory);
    LatentHeadsBackward({.dk = dk, .dv = dv, .dkv = dkv, .drope = drope}, {});
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t i = 0; i < kRope; ++i) {
        double sum = 0.0;
        for (int64_t head = 0; head < kHeads; ++head) {
          const int64_t at = ((row * kHeads + head) * (kNope + kRope)) + kNope + i;
          EXPECT_EQ(ElementAt(k, at), ElementAt(rope, row * kRope + i));
          sum += ElementAt(dk, at);
        }
        EXPECT_NEAR(ElementAt(drope, row * kRope + i), sum, Bound(dtype) * (1.0 + std::abs(sum)));
      }
      for (int64_t head = 0; head < kHeads; ++head) {
        const int64_t h = row * kHeads + head;
        for (int64_t i = 0; i < kNope + kValues; ++i) {
          const bool of_key = i < kNope;
          const int64_t at = of_key ? h * (kNope + kRope) + i : h * kValues + i - kNope;
          EXPECT_EQ(ElementAt(of_key ? k : v, at), ElementAt(kv, h * (kNope + kValues) + i));
          EXPECT_EQ(ElementAt(dkv, h * (kNope + kValues) + i), ElementAt(of_key ? dk : dv, at));
        }
      }
    }
  }
}

TEST(LatentHeads, RefusesWhatDoesNotFit) {
  GuardAllocator memory;
  const Tensor kv = Tensor::Zeros({5, 2, 7}, DType::kF32, memory);
  const Tensor rope = Tensor::Zeros({5, 2}, DType::kF32, memory);
  const Tensor k = Tensor::Zeros({5, 2, 5}, DType::kF32, memory);
  const Tensor v = Tensor::Zeros({5, 2, 4}, DType::kF32, memory);
  LatentHeadsForward({.kv = kv, .rope = rope, .k = k, .v = v}, {});
  EXPECT_THROW(LatentHeadsForward({.kv = kv, .rope = rope.Rows(0, 4), .k = k, .v = v}, {}), Error) << "a row too few";
  const Tensor wide = Tensor::Zeros({5, 2, 5}, DType::kF32, memory);
  EXPECT_THROW(LatentHeadsForward({.kv = kv, .rope = rope, .k = k, .v = wide}, {}), Error) << "a column too many";
  const Tensor table = Tensor::Zeros({3, 1, 2}, DType::kF32, memory);
  const SummaryLayout layout = {.text_tokens = 5};
  EXPECT_THROW(RotateTails({.x = k, .table = table, .y = k, .layout = layout}, {}), Error) << "a table too short";
}

}  // namespace
}  // namespace ksa::testing
