#include "kernels/rope/qk_norm_rope.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/support/context_layout.h"
#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::Bounded;
using testing::BoundedValues;
using testing::GuardAllocator;

constexpr double kEps = 1e-5;
constexpr double kTheta = 10000.0;

struct Options {
  int64_t heads = 3;
  int64_t head_dim = 6;
  DType dtype = DType::kF64;
  bool norm = true;
  bool two_weights = true;
  int64_t first_row = 0;
  SummaryLayout layout = {.sequences = 2, .text_tokens = 13, .chunk_size = 4, .summary_tokens = 2, .live_chunks = 2};
};

// The tensors of one forward and backward call; the split lies where the summary rows begin.
struct Problem {
  Problem(const Options& o, Allocator& memory) : options(o) {
    const int64_t n = o.layout.rows() - o.first_row;
    const int64_t e = o.head_dim;
    const DType wide = AccumulationType(o.dtype);
    split = std::max<int64_t>(0, o.layout.text_rows() - o.first_row);
    x = testing::Normal("x", {n, o.heads, e}, o.dtype, memory);
    dy = testing::Normal("dy", {n, o.heads, e}, o.dtype, memory);
    table = Tensor::Empty({o.layout.text_tokens, e / 2, 2}, wide, memory);
    FillRopeTable(table, kTheta, {});
    y = Tensor::Empty({n, o.heads, e}, o.dtype, memory);
    dx = Tensor::Empty({n, o.heads, e}, o.dtype, memory);
    if (o.norm) {
      weight = testing::Normal("weight", {e}, o.dtype, memory);
      dweight = testing::Normal("dweight", {e}, wide, memory);
      rstd = Tensor::Empty({n, o.heads}, wide, memory);
      if (o.two_weights) {
        weight_summary = testing::Normal("weight_summary", {e}, o.dtype, memory);
        dweight_summary = testing::Normal("dweight_summary", {e}, wide, memory);
      }
    }
  }

  void Forward(const Stream& stream = {}) const {
    QkNormRopeForward({.x = x,
                       .weight = weight,
                       .weight_summary = weight_summary,
                       .table = table,
                       .y = y,
                       .rstd = rstd,
                       .layout = options.layout,
                       .first_row = options.first_row,
                       .split = split,
                       .eps = kEps},
                      stream);
  }

  void Backward(bool accumulate, bool accumulate_summary, const Stream& stream = {}) const {
    QkNormRopeBackward({.dy = dy,
                        .x = x,
                        .rstd = rstd,
                        .weight = weight,
                        .weight_summary = weight_summary,
                        .table = table,
                        .dx = dx,
                        .dweight = dweight,
                        .dweight_summary = dweight_summary,
                        .layout = options.layout,
                        .first_row = options.first_row,
                        .split = split,
                        .accumulate = accumulate,
                        .accumulate_summary = accumulate_summary},
                       stream);
  }

  Options options;
  int64_t split = 0;
  Tensor x, dy, table, y, dx, weight, dweight, weight_summary, dweight_summary, rstd;
};

struct Expected {
  BoundedValues y;
  BoundedValues dx;
  std::vector<testing::Sum> dweight;
  std::vector<testing::Sum> dweight_summary;
};

// One head: norm, then each pair (i, i + e/2) turned by its angle; and both derivatives.
class HeadReference {
 public:
  HeadReference(const Problem& p, int64_t row)
      : p_(p),
        e_(static_cast<size_t>(p.options.head_dim)),
        summary_(row >= p.split && !p.weight_summary.empty()),
        position_(static_cast<size_t>(p.options.layout.Position(row + p.options.first_row))) {
    if (p.options.norm) {
      weight_ = testing::Exact(summary_ ? p.weight_summary : p.weight);
    }
  }

  void Run(const BoundedValues& x, const BoundedValues& dy, const BoundedValues& table, Expected& out) const {
    testing::Sum squares;
    for (const Bounded& value : x) {
      squares.Add(value * value);
    }
    const Bounded mean_square = squares.Result() / Bounded(p_.options.head_dim);
    const Bounded rstd = Bounded(1) / Sqrt(mean_square + testing::Constant(kEps, p_.options.dtype));
    BoundedValues normed = x;
    BoundedValues scaled = x;
    if (p_.options.norm) {
      for (size_t i = 0; i < e_; ++i) {
        normed[i] = x[i] * rstd;
        scaled[i] = normed[i] * weight_[i];
      }
    }
    BoundedValues g(e_);
    const size_t half = e_ / 2;
    for (size_t i = 0; i < e_; ++i) {
      const bool first = i < half;
      const Bounded cos = table[(position_ * half + i % half) * 2];
      const Bounded sin = table[(position_ * half + i % half) * 2 + 1];
      const size_t other = first ? i + half : i - half;
      out.y.push_back(first ? scaled[i] * cos - scaled[other] * sin : scaled[i] * cos + scaled[other] * sin);
      g[i] = first ? dy[i] * cos + dy[other] * sin : dy[i] * cos - dy[other] * sin;
    }
    if (!p_.options.norm) {
      out.dx.insert(out.dx.end(), g.begin(), g.end());
      return;
    }
    testing::Sum projection;
    for (size_t i = 0; i < e_; ++i) {
      projection.Add(g[i] * weight_[i] * normed[i]);
    }
    const Bounded mean = projection.Result() / Bounded(p_.options.head_dim);
    for (size_t i = 0; i < e_; ++i) {
      out.dx.push_back(rstd * (g[i] * weight_[i] - normed[i] * mean));
      (summary_ ? out.dweight_summary : out.dweight)[i].Add(g[i] * normed[i]);
    }
  }

 private:
  const Problem& p_;
  size_t e_;
  bool summary_;
  size_t position_;
  BoundedValues weight_;
};

Expected Reference(const Problem& p) {
  const auto e = p.options.head_dim;
  const BoundedValues x = testing::Exact(p.x);
  const BoundedValues dy = testing::Exact(p.dy);
  const BoundedValues table = testing::Exact(p.table);
  Expected out;
  out.dweight.resize(static_cast<size_t>(e));
  out.dweight_summary.resize(static_cast<size_t>(e));
  for (int64_t r = 0; r < p.x.rows(); ++r) {
    const HeadReference head(p, r);
    for (int64_t h = 0; h < p.options.heads; ++h) {
      const auto begin = (r * p.options.heads + h) * e;
      head.Run({x.begin() + begin, x.begin() + begin + e}, {dy.begin() + begin, dy.begin() + begin + e}, table, out);
    }
  }
  return out;
}

BoundedValues Added(const BoundedValues& before, const std::vector<testing::Sum>& sums, bool accumulate) {
  BoundedValues out;
  for (size_t i = 0; i < sums.size(); ++i) {
    const Bounded sum = sums[i].Result();
    out.push_back(accumulate ? before[i] + sum : sum);
  }
  return out;
}

void Check(const Options& options, bool accumulate, bool accumulate_summary) {
  SCOPED_TRACE(fmt::format("{} heads of {}, {}, norm {}, two weights {}, first row {}",
                           options.heads,
                           options.head_dim,
                           NameOf(options.dtype),
                           options.norm,
                           options.two_weights,
                           options.first_row));
  GuardAllocator memory;
  const Problem p(options, memory);
  const Expected want = Reference(p);
  p.Forward();
  testing::ExpectWithinBound(p.y, want.y, "y");
  BoundedValues before;
  BoundedValues before_summary;
  if (options.norm) {
    before = testing::Exact(p.dweight);
  }
  if (options.norm && options.two_weights) {
    before_summary = testing::Exact(p.dweight_summary);
  }
  p.Backward(accumulate, accumulate_summary);
  testing::ExpectWithinBound(p.dx, want.dx, "dx");
  if (options.norm) {
    testing::ExpectWithinBound(p.dweight, Added(before, want.dweight, accumulate), "dweight");
  }
  if (options.norm && options.two_weights) {
    const BoundedValues expected = Added(before_summary, want.dweight_summary, accumulate_summary);
    testing::ExpectWithinBound(p.dweight_summary, expected, "dweight_summary");
  }
}

TEST(RopeTable, HoldsCosAndSin) {
  GuardAllocator memory;
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const double theta : {10000.0, 1e6}) {
      const Tensor table = Tensor::Empty({3001, 7, 2}, dtype, memory);
      FillRopeTable(table, theta, {.device = {}, .threads = 2});
      for (int64_t p = 0; p < 3001; p += 59) {
        for (int64_t i = 0; i < 7; ++i) {
          const long double exponent = -2.0L * static_cast<long double>(i) / 14.0L;
          const long double angle = static_cast<long double>(p) * std::pow(static_cast<long double>(theta), exponent);
          // The angle comes from a power (2 units) and a product (1) in double, the results are rounded once.
          const long double limit =
              angle * 3.0L * 0x1p-52L + 2.0L * 0x1p-53L + static_cast<long double>(testing::UnitRoundoff(dtype));
          EXPECT_NEAR(testing::ElementAt(table, (p * 7 + i) * 2), std::cos(angle), limit) << p << ", " << i;
          EXPECT_NEAR(testing::ElementAt(table, (p * 7 + i) * 2 + 1), std::sin(angle), limit) << p << ", " << i;
        }
      }
    }
  }
}

TEST(QkNormRope, MatchesDefinition) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t head_dim : {2, 6, 14, 64, 130}) {
      for (const int64_t heads : {1, 3}) {
        Options options = {.heads = heads, .head_dim = head_dim, .dtype = dtype};
        Check(options, true, false);
        Check(options, false, true);
        options.two_weights = false;
        Check(options, false, false);
        options.norm = false;
        Check(options, false, false);
      }
    }
  }
}

TEST(QkNormRope, RowsFromTheMiddleOfALayout) {
  for (const DType dtype : testing::kFloatingTypes) {
    Check({.dtype = dtype, .first_row = 5}, true, true);
    Check({.dtype = dtype, .first_row = 26}, false, false);  // summary rows alone: the text weight gets zero
    SummaryLayout layout = Options{}.layout;
    layout.text_positions = TextPositions::kInnerChunk;
    layout.summary_positions = SummaryPositions::kChunkStart;
    Check({.dtype = dtype, .first_row = 3, .layout = layout}, true, false);
    layout.summary_tokens = 0;
    layout.live_chunks = 0;
    Check({.dtype = dtype, .layout = layout}, true, false);  // a model without summary rows
  }
}

// Two slices of a sequence and their summaries: each row is turned as the same row of the whole.
TEST(QkNormRope, RowsOfARankAreThoseOfTheWhole) {
  GuardAllocator memory;
  const std::vector<int32_t> first_chunk = {0, 0, 2, 2, 2, 2, 6, 7, 7, 0, 1, 1, 1, 1, 1, 1, 1, 8};
  const std::vector<int32_t> chunk_tokens = {4, 3, 4, 4, 4, 1, 0, 4, 2, 4, 4, 4, 4, 4, 4, 4, 4, 2};
  SummaryLayout whole = {.sequences = 2, .text_tokens = 34, .chunk_size = 4, .summary_tokens = 2, .live_chunks = 7};
  for (const bool documents : {false, true}) {
    whole.document_first_chunk = documents ? first_chunk.data() : nullptr;
    whole.chunk_tokens = documents ? chunk_tokens.data() : nullptr;
    const Problem all({.dtype = DType::kF32, .layout = whole}, memory);
    all.Forward();
    for (const int32_t ranks : {1, 2, 3, 5}) {
      for (int32_t rank = 0; rank < ranks; ++rank) {
        const SummaryLayout part = testing::RankLayout(whole, ranks, rank);
        SCOPED_TRACE(fmt::format("rank {} of {}, documents {}", rank, ranks, documents));
        Problem p({.dtype = DType::kF32, .layout = part}, memory);
        p.table = all.table;
        for (int64_t row = 0; row < part.rows(); ++row) {
          const Tensor from = all.x.Rows(testing::WholeRow(whole, part, 0, row), 1);
          std::copy_n(from.As<float>(), from.size(), p.x.Rows(row, 1).As<float>());
        }
        p.Forward();
        for (int64_t row = 0; row < part.rows(); ++row) {
          const int64_t whole_row = testing::WholeRow(whole, part, 0, row);
          ASSERT_EQ(part.Position(row), whole.Position(whole_row)) << "row " << row;
          testing::ExpectSameBits(p.y.Rows(row, 1), all.y.Rows(whole_row, 1), "y");
        }
      }
    }
  }
}

TEST(QkNormRope, GradientsAreDerivatives) {
  for (const bool norm : {true, false}) {
    GuardAllocator memory;
    const Problem p({.norm = norm}, memory);
    p.Forward();
    p.Backward(false, false);
    const auto f = [&] {
      p.Forward();
      return testing::Dot(p.dy, p.y);
    };
    std::vector<std::pair<const Tensor*, const Tensor*>> pairs = {{&p.x, &p.dx}};
    if (norm) {
      pairs.emplace_back(&p.weight, &p.dweight);
      pairs.emplace_back(&p.weight_summary, &p.dweight_summary);
    }
    for (const auto& [input, gradient] : pairs) {
      const std::vector<double> differences = testing::CentralDifferences(*input, f);
      EXPECT_LT(testing::RelativeDifference(testing::ToDouble(*gradient), differences),
                testing::kCentralDifferenceTolerance);
    }
  }
}

TEST(QkNormRope, ThreadsDoNotMatter) {
  GuardAllocator memory;
  const SummaryLayout layout = {
      .sequences = 3, .text_tokens = 201, .chunk_size = 8, .summary_tokens = 1, .live_chunks = 20};
  for (const DType dtype : testing::kFloatingTypes) {
    for (const bool norm : {true, false}) {
      testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
        const Problem p({.heads = 5, .head_dim = 22, .dtype = dtype, .norm = norm, .layout = layout}, memory);
        p.Forward(stream);
        p.Backward(true, false, stream);
        return norm ? std::vector<Tensor>{p.y, p.rstd, p.dx, p.dweight, p.dweight_summary}
                    : std::vector<Tensor>{p.y, p.dx};
      });
    }
  }
}

TEST(QkNormRope, WithoutNormInputIsNotNeededAndGradientMayBeTurnedInPlace) {
  GuardAllocator memory;
  const Problem p({.dtype = DType::kF32, .norm = false}, memory);
  p.Backward(true, true);
  const Tensor dy = testing::Clone(p.dy, memory);
  QkNormRopeBackward({.dy = dy, .table = p.table, .dx = dy, .layout = p.options.layout}, {});
  testing::ExpectSameBits(dy, p.dx, "dx");
}

TEST(QkNormRope, RefusesWrongArguments) {
  GuardAllocator memory;
  Problem p({.dtype = DType::kF32}, memory);
  p.table = Tensor::Zeros({12, 3, 2}, DType::kF32, memory);  // the last token stands at 12
  try {
    p.Forward();
    FAIL() << "read beyond the table";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "QkNormRopeForward: row 12 stands at position 12, the table ends at 12; fill a longer table");
  }
  EXPECT_THROW(p.Backward(true, true), Error);
  Problem q({.dtype = DType::kF32}, memory);
  q.options.first_row = 1;  // more rows than the layout has left
  EXPECT_THROW(q.Forward(), Error);
  Problem without({.dtype = DType::kF32}, memory);
  without.weight = Tensor();  // a summary weight alone
  EXPECT_THROW(without.Forward(), Error);
  const Tensor odd = testing::Normal("odd", {34, 3, 5}, DType::kF32, memory);
  q.options.first_row = 0;
  q.x = odd;
  EXPECT_THROW(q.Forward(), Error);
  EXPECT_THROW(FillRopeTable(p.table, 0.0, {}), Error);
  // A part of a longer sequence: the table has to hold the sequence's positions, not as many as there are rows.
  Problem part({.dtype = DType::kF32}, memory);
  part.options.layout.total_tokens = 17;
  part.options.layout.first_chunk = 1;
  EXPECT_THROW(part.Forward(), Error);
}

}  // namespace
}  // namespace ksa
