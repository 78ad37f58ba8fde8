// Attention to kept keys against plain loops in double, and moves of rows against copies one by one.
#include "kernels/cache/cached_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/cache/move_rows.h"
#include "kernels/core/error.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

struct Case {
  int64_t heads;
  int64_t key_heads;
  int64_t e;
  int64_t c;
  bool own_values;  // else the first columns of keys
};

// Of each query: runs of kept rows, and of new ones.
struct Spans {
  int64_t kept_rows;
  int64_t new_rows;
  std::vector<std::vector<int32_t>> of;  // [n][kKeySpans · 2]
};

std::vector<Spans> SpanCases() {
  return {
      {9, 3, {{0, 1, 0, 0, 0, 0, 0, 0}, {5, 4, 0, 3, 4, 1, 1, 2}, {0, 0, 0, 0, 0, 0, 2, 1}, {0, 0, 0, 0, 0, 0, 0, 0}}},
      {700, 1, {{300, 400, 0, 113, 0, 0, 0, 1}, {1, 256, 0, 0, 0, 0, 0, 0}, {1, 257, 0, 0, 0, 0, 0, 0}}}};
}

struct Problem {
  Problem(const Case& of, const Spans& kept, DType dtype, Allocator& memory) : shape(of), spans(kept) {
    const auto n = static_cast<int64_t>(spans.of.size());
    q = Normal("q", {n, shape.heads, shape.e}, dtype, memory);
    k = Normal("k", {spans.kept_rows, shape.key_heads, shape.e}, dtype, memory);
    new_k = Normal("new k", {spans.new_rows, shape.key_heads, shape.e}, dtype, memory);
    if (shape.own_values) {
      v = Normal("v", {spans.kept_rows, shape.key_heads, shape.c}, dtype, memory);
      new_v = Normal("new v", {spans.new_rows, shape.key_heads, shape.c}, dtype, memory);
    }
    out = Tensor::Empty({n, shape.heads, shape.c}, dtype, memory);
    numbers = Tensor::Empty({n, kKeySpans, 2}, DType::kI32, memory);
    for (int64_t i = 0; i < n; ++i) {
      int64_t keys = 0;
      for (int64_t j = 0; j < 2 * kKeySpans; ++j) {
        numbers.As<int32_t>()[i * 2 * kKeySpans + j] = spans.of[static_cast<size_t>(i)][static_cast<size_t>(j)];
        keys += j % 2 == 1 ? spans.of[static_cast<size_t>(i)][static_cast<size_t>(j)] : 0;
      }
      most_keys = std::max(most_keys, keys);
    }
  }

  void Run(const Stream& stream) const {
    CachedAttention(
        {.q = q, .k = k, .v = v, .new_k = new_k, .new_v = new_v, .spans = numbers, .out = out, .most_keys = most_keys},
        stream);
  }

  // Every output by the definition.
  [[nodiscard]] std::vector<double> Expected() const {
    std::vector<double> expected;
    for (int64_t i = 0; i < q.rows(); ++i) {
      for (int64_t head = 0; head < shape.heads; ++head) {
        const int64_t key_head = head / (shape.heads / shape.key_heads);
        std::vector<double> sum(static_cast<size_t>(shape.c));
        double total = 0.0;
        for (int s = 0; s < kKeySpans; ++s) {
          const bool is_new = s == kKeySpans - 1;
          const int32_t* span = numbers.As<int32_t>() + (i * kKeySpans + s) * 2;
          for (int64_t row = span[0]; row < span[0] + span[1]; ++row) {
            AddKey(is_new ? new_k : k,
                   is_new ? new_v : v,
                   row * shape.key_heads + key_head,
                   i * shape.heads + head,
                   total,
                   sum);
          }
        }
        for (const double x : sum) {
          expected.push_back(total == 0.0 ? 0.0 : x / total);
        }
      }
    }
    return expected;
  }

  Case shape;
  Spans spans;
  Tensor q, k, v, new_k, new_v, out, numbers;
  int64_t most_keys = 0;

 private:
  void AddKey(const Tensor& keys,
              const Tensor& values,
              int64_t key,
              int64_t query,
              double& total,
              std::vector<double>& sum) const {
    double score = 0.0;
    for (int64_t d = 0; d < shape.e; ++d) {
      score += ElementAt(q, query * shape.e + d) * ElementAt(keys, key * shape.e + d);
    }
    const double weight = std::exp(score / std::sqrt(static_cast<double>(shape.e)));
    total += weight;
    for (int64_t d = 0; d < shape.c; ++d) {
      const double value = shape.own_values ? ElementAt(values, key * shape.c + d) : ElementAt(keys, key * shape.e + d);
      sum[static_cast<size_t>(d)] += weight * value;
    }
  }
};

std::vector<Case> Cases() {
  return {{1, 1, 4, 4, true}, {6, 2, 16, 16, true}, {4, 4, 5, 3, true}, {3, 1, 17, 13, false}, {2, 2, 64, 64, true}};
}

// Sums of 513 terms in fp32, of numbers of order 1; outputs in bf16 are rounded once.
double BoundOf(DType dtype) {
  return dtype == DType::kF64 ? 1e-13 : dtype == DType::kF32 ? 3e-6 : 2.0 * UnitRoundoff(dtype);
}

TEST(CachedAttention, EqualsTheDefinition) {
  GuardAllocator memory;
  for (const DType dtype : kFloatingTypes) {
    for (const Case& shape : Cases()) {
      for (const Spans& spans : SpanCases()) {
        const Problem problem(shape, spans, dtype, memory);
        problem.Run({});
        EXPECT_LT(RelativeDifference(ToDouble(problem.out), problem.Expected()), BoundOf(dtype))
            << NameOf(dtype) << ", " << shape.heads << " heads of " << shape.e << ", " << spans.kept_rows << " rows";
      }
    }
  }
}

TEST(CachedAttention, ThreadsDoNotMatter) {
  GuardAllocator memory;
  ExpectSameForAllThreadCounts([&](const Stream& stream) {
    const Problem problem({6, 2, 16, 16, true}, SpanCases()[1], DType::kF32, memory);
    problem.Run(stream);
    return std::vector<Tensor>{problem.out};
  });
}

TEST(CachedAttention, SpansOutsideOfTheRowsAreRefused) {
  GuardAllocator memory;
  const Problem problem({1, 1, 4, 4, true}, {5, 1, {{0, 5, 0, 0, 0, 0, 0, 1}}}, DType::kF32, memory);
  problem.Run({});
  for (const auto& [at, value] : std::vector<std::pair<int, int32_t>>{{1, 6}, {0, 1}, {6, -1}, {7, 2}}) {
    const int32_t good = std::exchange(problem.numbers.As<int32_t>()[at], value);
    EXPECT_THROW(problem.Run({}), Error) << "number " << at;
    problem.numbers.As<int32_t>()[at] = good;
  }
}

TEST(MoveRows, NamesWhereRowsComeFromAndGo) {
  GuardAllocator memory;
  const Tensor from = Normal("from", {5, 3}, DType::kF32, memory);
  const auto list = [&](const std::vector<int32_t>& numbers) {
    const Tensor tensor = Tensor::Empty({static_cast<int64_t>(numbers.size())}, DType::kI32, memory);
    std::copy(numbers.begin(), numbers.end(), tensor.As<int32_t>());
    return tensor;
  };
  const auto moved = [&](const Tensor& from_rows, const Tensor& to_rows) {
    const Tensor to = Tensor::Zeros({4, 3}, DType::kF32, memory);
    MoveRows({.from = from, .from_rows = from_rows, .to = to, .to_rows = to_rows}, {});
    std::vector<int> rows;  // which row of `from` each has; -1: none
    for (int r = 0; r < 4; ++r) {
      int found = -1;
      for (int a = 0; a < 5; ++a) {
        found = to.As<float>()[3 * r + 2] == from.As<float>()[3 * a + 2] ? a : found;
      }
      rows.push_back(found);
    }
    return rows;
  };
  EXPECT_EQ(moved(list({4, 0}), list({1, 3})), (std::vector<int>{-1, 4, -1, 0}));
  EXPECT_EQ(moved(list({2, 2, 1}), {}), (std::vector<int>{2, 2, 1, -1}));
  EXPECT_EQ(moved({}, list({3, 0})), (std::vector<int>{1, -1, -1, 0}));
  EXPECT_THROW(static_cast<void>(moved(list({5}), list({0}))), Error);
  EXPECT_THROW(static_cast<void>(moved(list({0}), list({4}))), Error);
  EXPECT_THROW(static_cast<void>(moved({}, {})), Error);
}

}  // namespace
}  // namespace ksa::testing
