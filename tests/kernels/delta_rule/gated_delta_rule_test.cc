#include "kernels/delta_rule/gated_delta_rule.h"

#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/kernels/delta_rule/naive_delta_rule.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::GuardAllocator;
using testing::NaiveDeltaRule;

struct Size {
  int32_t sequences;
  int32_t tokens;
  int32_t chunk_size;
  int64_t key_heads;
  int64_t value_heads;
  int64_t dk;
  int64_t dv;
  double decay;  // of g, on the average
};

std::string NameOfSize(const Size& s) {
  return fmt::format(
      "{}x{}_k{}_{}of{}_{}x{}", s.sequences, s.tokens, s.chunk_size, s.key_heads, s.value_heads, s.dk, s.dv);
}

// The tables of packed documents for a batch of sequences: documents of these lengths, each from a new chunk on.
struct Documents {
  Documents(const SummaryLayout& layout, const std::vector<int32_t>& lengths) {
    const int32_t k = layout.chunk_size;
    for (int32_t s = 0; s < layout.sequences; ++s) {
      int32_t chunk = 0;
      for (size_t d = 0; chunk < layout.total_chunks(); ++d) {
        const int32_t length = lengths[(d + static_cast<size_t>(s)) % lengths.size()];
        const int32_t begin = chunk;
        for (int32_t done = 0; done < length && chunk < layout.total_chunks(); done += k, ++chunk) {
          first.push_back(begin);
          tokens.push_back(std::min({k, length - done, layout.total() - chunk * k}));
        }
      }
    }
  }

  [[nodiscard]] SummaryLayout In(SummaryLayout layout) const {
    layout.document_first_chunk = first.data();
    layout.chunk_tokens = tokens.data();
    return layout;
  }

  std::vector<int32_t> first;
  std::vector<int32_t> tokens;
};

// The tensors of a call, and the naive run of each slice and value head.
class Problem {
 public:
  Problem(const Size& size, const SummaryLayout& layout, DType dtype, bool with_states)
      : size_(size), layout_(layout), dtype_(dtype), exact_(AccumulationType(dtype)) {
    const int64_t n = layout.text_rows();
    const Shape keys = {n, size.key_heads, size.dk};
    const Shape values = {n, size.value_heads, size.dv};
    const Shape state = {SliceCount(layout), size.value_heads, size.dk, size.dv};
    q = testing::Normal("q", keys, dtype, memory);
    k = testing::Normal("k", keys, dtype, memory);
    for (int64_t row = 0; row < n * size.key_heads; ++row) {
      double squares = 0.0;
      for (int64_t i = 0; i < size.dk; ++i) {
        squares += std::pow(testing::ElementAt(k, row * size.dk + i), 2);
      }
      for (int64_t i = 0; i < size.dk; ++i) {
        testing::SetElement(k, row * size.dk + i, testing::ElementAt(k, row * size.dk + i) / std::sqrt(squares));
      }
    }
    v = testing::Normal("v", values, dtype, memory);
    dout = testing::Normal("dout", values, dtype, memory);
    g = testing::Normal("g", {n, size.value_heads}, exact_, memory);
    beta = testing::Normal("beta", {n, size.value_heads}, exact_, memory);
    for (int64_t i = 0; i < g.size(); ++i) {
      testing::SetElement(g, i, -size.decay * std::exp(testing::ElementAt(g, i)));
      testing::SetElement(beta, i, 2.0 / (1.0 + std::exp(testing::ElementAt(beta, i))));
    }
    if (with_states) {
      initial = testing::Normal("initial", state, exact_, memory);
      dfinal = testing::Normal("dfinal", state, exact_, memory);
    }
    out = Tensor::Empty(values, dtype, memory);
    final_state = Tensor::Empty(state, exact_, memory);
    dq = Tensor::Empty(keys, dtype, memory);
    dk = Tensor::Empty(keys, dtype, memory);
    dv = Tensor::Empty(values, dtype, memory);
    dg = Tensor::Empty(g.shape(), exact_, memory);
    dbeta = Tensor::Empty(g.shape(), exact_, memory);
    dinitial = Tensor::Empty(state, exact_, memory);
  }

  void Run(const Stream& stream = {}) {
    GatedDeltaRuleForward({.q = q,
                           .k = k,
                           .v = v,
                           .g = g,
                           .beta = beta,
                           .initial_state = initial,
                           .out = out,
                           .final_state = final_state,
                           .layout = layout_,
                           .allocator = &memory},
                          stream);
    GatedDeltaRuleBackward({.q = q,
                            .k = k,
                            .v = v,
                            .g = g,
                            .beta = beta,
                            .initial_state = initial,
                            .dout = dout,
                            .dfinal_state = dfinal,
                            .dq = dq,
                            .dk = dk,
                            .dv = dv,
                            .dg = dg,
                            .dbeta = dbeta,
                            .dinitial_state = dinitial,
                            .layout = layout_,
                            .allocator = &memory},
                           stream);
  }

  [[nodiscard]] std::vector<Tensor> Outputs() const { return {out, final_state, dq, dk, dv, dg, dbeta, dinitial}; }

  void Compare(double bound, double gradient_bound) const {
    Expected want(*this);
    for (int64_t slice = 0; slice < SliceCount(layout_); ++slice) {
      for (int64_t head = 0; head < size_.value_heads; ++head) {
        AddNaive(slice, head, want);
      }
    }
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(out), want.out), bound) << "out";
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(final_state), want.final_state), bound) << "final_state";
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(dq), want.dq), gradient_bound) << "dq";
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(dk), want.dk), gradient_bound) << "dk";
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(dv), want.dv), gradient_bound) << "dv";
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(dg), want.dg), gradient_bound) << "dg";
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(dbeta), want.dbeta), gradient_bound) << "dbeta";
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(dinitial), want.dinitial), gradient_bound) << "dinitial";
  }

  mutable GuardAllocator memory;
  Tensor q, k, v, g, beta, initial, dout, dfinal;
  Tensor out, final_state, dq, dk, dv, dg, dbeta, dinitial;

 private:
  struct Expected {
    explicit Expected(const Problem& p)
        : out(Zeros(p.out)),
          final_state(Zeros(p.final_state)),
          dq(Zeros(p.dq)),
          dk(Zeros(p.dk)),
          dv(Zeros(p.dv)),
          dg(Zeros(p.dg)),
          dbeta(Zeros(p.dbeta)),
          dinitial(Zeros(p.dinitial)) {}

    static std::vector<double> Zeros(const Tensor& x) {
      return std::vector<double>(static_cast<size_t>(x.size()), 0.0);
    }

    std::vector<double> out, final_state, dq, dk, dv, dg, dbeta, dinitial;
  };

  [[nodiscard]] static std::vector<double> Vector(const Tensor& x, int64_t at, int64_t size) {
    std::vector<double> values;
    for (int64_t i = 0; x.view().data != nullptr && i < size; ++i) {
      values.push_back(testing::ElementAt(x, at + i));
    }
    values.resize(static_cast<size_t>(size), 0.0);
    return values;
  }

  void AddNaive(int64_t slice, int64_t head, Expected& want) const {
    const bool two = SliceCount(layout_) > layout_.sequences;
    const auto sequence = static_cast<int32_t>(two ? slice / 2 : slice);
    const int32_t cut = two ? layout_.run_chunks * layout_.chunk_size : layout_.text_tokens;
    const bool second = two && slice % 2 == 1;
    const int64_t key_head = head / (size_.value_heads / size_.key_heads);
    const int64_t state = (slice * size_.value_heads + head) * size_.dk * size_.dv;
    NaiveDeltaRule naive(size_.dk, size_.dv);
    std::vector<int64_t> rows;
    for (int32_t i = second ? cut : 0; i < (second ? layout_.text_tokens : cut); ++i) {
      const int32_t chunk = layout_.ChunkOfText(i);
      const int64_t row = layout_.TextRow(sequence, i);
      rows.push_back(row);
      naive.starts.push_back(i % layout_.chunk_size == 0 && layout_.DocumentChunk(sequence, chunk) == chunk);
      naive.padding.push_back(layout_.IsPadding(sequence, i));
      naive.q.push_back(Vector(q, (row * size_.key_heads + key_head) * size_.dk, size_.dk));
      naive.k.push_back(Vector(k, (row * size_.key_heads + key_head) * size_.dk, size_.dk));
      naive.v.push_back(Vector(v, (row * size_.value_heads + head) * size_.dv, size_.dv));
      naive.dout.push_back(Vector(dout, (row * size_.value_heads + head) * size_.dv, size_.dv));
      naive.g.push_back(testing::ElementAt(g, row * size_.value_heads + head));
      naive.beta.push_back(testing::ElementAt(beta, row * size_.value_heads + head));
    }
    naive.initial_state = Vector(initial, state, size_.dk * size_.dv);
    naive.dfinal_state = Vector(dfinal, state, size_.dk * size_.dv);
    naive.Forward();
    naive.Backward();
    const auto add = [](const std::vector<double>& from, int64_t at, std::vector<double>& to) {
      for (size_t i = 0; i < from.size(); ++i) {
        to[static_cast<size_t>(at) + i] += from[i];
      }
    };
    for (size_t t = 0; t < rows.size(); ++t) {
      const int64_t key_at = (rows[t] * size_.key_heads + key_head) * size_.dk;
      const int64_t value_at = (rows[t] * size_.value_heads + head) * size_.dv;
      add(naive.out[t], value_at, want.out);
      add(naive.dq[t], key_at, want.dq);
      add(naive.dk_rows[t], key_at, want.dk);
      add(naive.dv_rows[t], value_at, want.dv);
      want.dg[static_cast<size_t>(rows[t] * size_.value_heads + head)] = naive.dg[t];
      want.dbeta[static_cast<size_t>(rows[t] * size_.value_heads + head)] = naive.dbeta[t];
    }
    add(naive.final_state, state, want.final_state);
    add(naive.dinitial_state, state, want.dinitial);
  }

  Size size_;
  SummaryLayout layout_;
  DType dtype_;
  DType exact_;
};

const Size kSizes[] = {
    {1, 1, 1, 1, 1, 1, 1, 0.1},
    {1, 5, 1, 1, 2, 3, 2, 0.1},
    {2, 63, 4, 1, 1, 8, 16, 0.1},
    {1, 64, 8, 2, 2, 8, 8, 1.0},
    {1, 65, 1, 1, 3, 16, 8, 0.01},
    {2, 150, 8, 2, 4, 5, 7, 0.1},
    {1, 200, 16, 1, 1, 16, 24, 5.0},
    {3, 129, 7, 2, 6, 4, 4, 0.001},
};

class GatedDeltaRule : public ::testing::TestWithParam<Size> {
 protected:
  [[nodiscard]] static SummaryLayout Layout() {
    const Size& size = GetParam();
    return {.sequences = size.sequences, .text_tokens = size.tokens, .chunk_size = size.chunk_size};
  }

  // The chunked form in fp64 against the recurrence. In fp32 and bf16 what is compared with is exact for the rounded
  // inputs; a hundred tokens of sums cost fp32 two digits, and bf16 rounds what it stores.
  static void RunAll(const SummaryLayout& layout, bool with_states) {
    for (const DType dtype : testing::kFloatingTypes) {
      SCOPED_TRACE(NameOf(dtype));
      Problem problem(GetParam(), layout, dtype, with_states);
      problem.Run();
      const double unit = testing::UnitRoundoff(AccumulationType(dtype));
      const double rounding = testing::UnitRoundoff(dtype);
      problem.Compare(rounding + 400 * unit, rounding + 2000 * unit);
    }
  }
};

TEST_P(GatedDeltaRule, OneDocument) {
  RunAll(Layout(), false);
}

// Which begins before what is here.
TEST_P(GatedDeltaRule, FromAState) {
  SummaryLayout layout = Layout();
  layout.first_chunk = 2;
  layout.total_tokens = layout.text_tokens + 5 * layout.chunk_size;
  RunAll(layout, true);
}

TEST_P(GatedDeltaRule, Documents) {
  const Documents documents(Layout(), {11, 1, 70, 26});
  RunAll(documents.In(Layout()), false);
}

// Two runs of a longer sequence, the first of which goes on with a document.
TEST_P(GatedDeltaRule, TwoRunsWithDocuments) {
  SummaryLayout layout = Layout();
  layout.text_tokens = std::max(2, layout.chunks()) * layout.chunk_size;
  layout.first_chunk = 1;
  layout.run_chunks = layout.chunks() / 2;
  layout.second_chunk = layout.run_chunks + 4;
  layout.total_tokens = layout.text_tokens + 6 * layout.chunk_size;
  const Documents documents(layout, {3 * layout.chunk_size + 1, 90, 1, 17});
  RunAll(documents.In(layout), true);
}

TEST_P(GatedDeltaRule, SameBitsForAllThreadCounts) {
  testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
    static GuardAllocator memory;
    Problem problem(GetParam(), Layout(), DType::kF32, false);
    problem.Run(stream);
    std::vector<Tensor> copies;
    for (const Tensor& x : problem.Outputs()) {
      copies.push_back(testing::Clone(x, memory));
    }
    return copies;
  });
}

// final state = transition · initial state + final state from zeros.
TEST_P(GatedDeltaRule, TransitionIsWhatBecomesOfAState) {
  SummaryLayout layout = Layout();
  layout.first_chunk = 1;
  layout.total_tokens = layout.text_tokens + 3 * layout.chunk_size;
  const Size& size = GetParam();
  Problem from_state(size, layout, DType::kF64, true);
  Problem from_zeros(size, layout, DType::kF64, false);
  from_state.Run();
  from_zeros.Run();
  GuardAllocator memory;
  const Tensor transition =
      Tensor::Empty({SliceCount(layout), size.value_heads, size.dk, size.dk}, DType::kF64, memory);
  GatedDeltaRuleTransition({.k = from_state.k,
                            .g = from_state.g,
                            .beta = from_state.beta,
                            .transition = transition,
                            .layout = layout,
                            .allocator = &memory},
                           {});
  std::vector<double> want = testing::ToDouble(from_zeros.final_state);
  for (int64_t s = 0; s < SliceCount(layout) * size.value_heads; ++s) {
    for (int64_t i = 0; i < size.dk; ++i) {
      for (int64_t j = 0; j < size.dv; ++j) {
        for (int64_t x = 0; x < size.dk; ++x) {
          want[static_cast<size_t>((s * size.dk + i) * size.dv + j)] +=
              testing::ElementAt(transition, (s * size.dk + i) * size.dk + x) *
              testing::ElementAt(from_state.initial, (s * size.dk + x) * size.dv + j);
        }
      }
    }
  }
  EXPECT_LE(testing::RelativeDifference(testing::ToDouble(from_state.final_state), want), 1e-13);
}

INSTANTIATE_TEST_SUITE_P(Sizes, GatedDeltaRule, ::testing::ValuesIn(kSizes), [](const auto& test) {
  return NameOfSize(test.param);
});

// Keys that look alike, nothing forgotten: an inverse by powers of the chunk's matrix loses everything here in fp32.
TEST(GatedDeltaRuleTest, KeysThatLookAlike) {
  const Size size = {1, 128, 1, 1, 1, 16, 8, 1e-4};
  const SummaryLayout layout = {.text_tokens = size.tokens};
  Problem problem(size, layout, DType::kF32, false);
  for (int64_t row = 0; row < size.tokens; ++row) {
    for (int64_t i = 0; i < size.dk; ++i) {
      const double x = 0.05 * testing::ElementAt(problem.k, row * size.dk + i) + (i == 0 ? 1.0 : 0.0);
      testing::SetElement(problem.k, row * size.dk + i, x / 1.001);
    }
    testing::SetElement(problem.beta, row, 1.0);
  }
  problem.Run();
  problem.Compare(2e-5, 1e-4);
}

TEST(GatedDeltaRuleTest, StateStep) {
  GuardAllocator memory;
  const Tensor transition = testing::Normal("transition", {3, 5, 5}, DType::kF64, memory);
  const Tensor state = testing::Normal("state", {3, 5, 7}, DType::kF64, memory);
  const Tensor add = testing::Normal("add", {3, 5, 7}, DType::kF64, memory);
  const Tensor out = Tensor::Empty({3, 5, 7}, DType::kF64, memory);
  for (const bool transposed : {false, true}) {
    DeltaStateStep({.transition = transition, .state = state, .add = add, .out = out, .transposed = transposed}, {});
    std::vector<double> want = testing::ToDouble(add);
    for (int64_t i = 0; i < 3 * 5 * 7; ++i) {
      const int64_t head = i / 35;
      const int64_t row = i / 7 % 5;
      for (int64_t x = 0; x < 5; ++x) {
        want[static_cast<size_t>(i)] +=
            testing::ElementAt(transition, head * 25 + (transposed ? x * 5 + row : row * 5 + x)) *
            testing::ElementAt(state, head * 35 + x * 7 + i % 7);
      }
    }
    EXPECT_LE(testing::RelativeDifference(testing::ToDouble(out), want), 1e-14);
  }
}

TEST(GatedDeltaRuleTest, PaddingHasOutputZeroAndNoGradient) {
  const Size size = {1, 32, 8, 1, 1, 4, 4, 0.1};
  const SummaryLayout plain = {.text_tokens = size.tokens, .chunk_size = size.chunk_size};
  const Documents documents(plain, {3, 9});
  const SummaryLayout layout = documents.In(plain);
  Problem problem(size, layout, DType::kF32, false);
  problem.Run();
  int padding = 0;
  for (int32_t i = 0; i < size.tokens; ++i) {
    if (!layout.IsPadding(0, i)) {
      continue;
    }
    ++padding;
    for (const Tensor& x : {problem.out, problem.dq, problem.dk, problem.dv}) {
      for (int64_t e = 0; e < 4; ++e) {
        EXPECT_EQ(testing::ElementAt(x, i * 4 + e), 0.0);
      }
    }
    EXPECT_EQ(testing::ElementAt(problem.dg, i), 0.0);
    EXPECT_EQ(testing::ElementAt(problem.dbeta, i), 0.0);
  }
  EXPECT_GT(padding, 5);
}

}  // namespace
}  // namespace ksa
