// The convolution against plain loops over documents in double, and parts of a sequence against the whole.
#include "kernels/short_conv/short_conv.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/short_conv/conv_rows.h"
#include "tests/support/context_layout.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

struct Case {
  int32_t sequences = 1;
  int32_t tokens = 0;
  int32_t chunk_size = 1;
  int32_t summary_tokens = 0;
  std::vector<int32_t> documents;  // lengths, in every sequence; empty: one
  int64_t channels = 0;
  int64_t taps = 0;
};

const std::vector<Case> kCases = {{1, 1, 1, 0, {}, 3, 2},
                                  {2, 7, 3, 1, {}, 5, 4},
                                  {1, 3, 8, 0, {}, 1, 16},
                                  {1, 113, 4, 2, {}, 17, 3},
                                  {1, 29, 1, 0, {}, 6, 5},
                                  {2, 30, 4, 1, {5, 1, 9, 2, 4}, 7, 4},
                                  {1, 30, 4, 0, {13, 6, 1}, 33, 16}};

// A layout and the tables of its documents.
class Layout {
 public:
  explicit Layout(const Case& c) {
    whole = {.sequences = c.sequences,
             .text_tokens = c.tokens,
             .chunk_size = c.chunk_size,
             .summary_tokens = c.summary_tokens};
    whole.live_chunks = c.summary_tokens > 0 ? whole.chunks() / 2 : 0;
    for (int32_t q = 0; q < c.sequences; ++q) {
      int32_t chunk = 0;
      const auto add = [&](int32_t first, int32_t tokens) {
        first_chunk_.push_back(first);
        chunk_tokens_.push_back(tokens);
        ++chunk;
      };
      for (const int32_t length : c.documents) {
        for (int32_t first = chunk, done = 0; done < length; done += c.chunk_size) {
          add(first, std::min(c.chunk_size, length - done));
        }
      }
      while (chunk < whole.chunks()) {
        add(chunk, 0);
      }
    }
    if (!c.documents.empty()) {
      whole.document_first_chunk = first_chunk_.data();
      whole.chunk_tokens = chunk_tokens_.data();
    }
  }

  SummaryLayout whole;

 private:
  std::vector<int32_t> first_chunk_;
  std::vector<int32_t> chunk_tokens_;
};

using Matrix = std::vector<std::vector<double>>;

struct Naive {
  Matrix y, dx, dw;  // dw: [c][tap]
};

constexpr ConvForm kForms[] = {ConvForm::kResidual, ConvForm::kSilu};

double Sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// Token by token, from the formula: token t of a document reads t, t - 1, ... of the same document.
Naive RunNaive(const SummaryLayout& layout, ConvForm form, const Tensor& x, const Tensor& w, const Tensor& dy) {
  const int64_t channels = x.cols();
  const int64_t taps = w.shape()[2];
  const auto at = [&](const Tensor& m, int64_t row, int64_t c) { return ElementAt(m, row * channels + c); };
  Naive naive;
  naive.dw.assign(static_cast<size_t>(channels), std::vector<double>(static_cast<size_t>(taps)));
  for (int64_t r = 0; r < x.rows(); ++r) {
    naive.y.push_back(ToDouble(x.view().Rows(r, 1)));
    naive.dx.push_back(ToDouble(dy.view().Rows(r, 1)));
  }
  for (int32_t q = 0; q < layout.sequences; ++q) {
    for (int32_t i = 0; i < layout.text_tokens; ++i) {
      const int64_t row = layout.TextRow(q, i);
      for (int64_t c = 0; c < channels && !layout.IsPadding(q, i) && form == ConvForm::kSilu; ++c) {
        naive.dx[static_cast<size_t>(row)][static_cast<size_t>(c)] = 0.0;  // no residual
      }
    }
  }
  for (int32_t q = 0; q < layout.sequences; ++q) {
    for (int32_t i = 0; i < layout.text_tokens; ++i) {
      if (layout.IsPadding(q, i)) {
        continue;
      }
      const int64_t row = layout.TextRow(q, i);
      const int32_t document = layout.DocumentChunk(q, i / layout.chunk_size);
      int32_t reads = 0;  // rows
      while (reads < taps && reads <= i && layout.DocumentChunk(q, (i - reads) / layout.chunk_size) == document) {
        ++reads;
      }
      for (int64_t c = 0; c < channels; ++c) {
        double u = 0.0;
        for (int32_t j = 0; j < reads; ++j) {
          u += ElementAt(w, c * taps + taps - 1 - j) * at(x, row - j, c);
        }
        const bool residual = form == ConvForm::kResidual;
        naive.y[static_cast<size_t>(row)][static_cast<size_t>(c)] = residual ? at(x, row, c) + u : u * Sigmoid(u);
        const double slope = residual ? 1.0 : Sigmoid(u) + u * Sigmoid(u) * Sigmoid(-u);
        for (int32_t j = 0; j < reads; ++j) {
          const double du = slope * at(dy, row, c);
          naive.dx[static_cast<size_t>(row - j)][static_cast<size_t>(c)] += ElementAt(w, c * taps + taps - 1 - j) * du;
          naive.dw[static_cast<size_t>(c)][static_cast<size_t>(taps - 1 - j)] += du * at(x, row - j, c);
        }
      }
    }
  }
  return naive;
}

std::vector<double> Flat(const Matrix& m) {
  std::vector<double> flat;
  for (const std::vector<double>& row : m) {
    flat.insert(flat.end(), row.begin(), row.end());
  }
  return flat;
}

// One rounding of the result; sums of a few terms in fp64 and fp32. dw sums over all rows.
double Bound(DType dtype) {
  return dtype == DType::kF64 ? 1e-13 : dtype == DType::kF32 ? 2e-6 : 8e-3;
}

void ExpectNaive(const Case& c, ConvForm form, DType dtype, bool text_alone) {
  SCOPED_TRACE(::testing::Message() << c.tokens << " tokens, " << c.taps << " taps, " << NameOf(dtype) << ", form "
                                    << static_cast<int>(form));
  GuardAllocator memory;
  const Layout layout(c);
  const int64_t rows = text_alone ? layout.whole.text_rows() : layout.whole.rows();
  const Tensor x = Normal("x", {rows, c.channels}, dtype, memory);
  const Tensor w = Normal("w", {c.channels, 1, c.taps}, dtype, memory);
  const Tensor dy = Normal("dy", {rows, c.channels}, dtype, memory);
  const Naive naive = RunNaive(layout.whole, form, x, w, dy);
  const Tensor y = Tensor::Empty(x.shape(), dtype, memory);
  ShortConvForward({.x = x, .weight = w, .y = y, .layout = layout.whole, .form = form}, {});
  EXPECT_LT(RelativeDifference(ToDouble(y), Flat(naive.y)), Bound(dtype));
  const Tensor dx = Tensor::Empty(x.shape(), dtype, memory);
  const Tensor dw = Tensor::Zeros(w.shape(), AccumulationType(dtype), memory);
  for (const bool accumulate : {false, true}) {
    ShortConvBackward({.dy = dy,
                       .x = x,
                       .weight = w,
                       .dx = dx,
                       .dweight = dw,
                       .accumulate = accumulate,
                       .layout = layout.whole,
                       .form = form},
                      {});
    std::vector<double> expected = Flat(naive.dw);
    for (double& value : expected) {
      value *= accumulate ? 2.0 : 1.0;
    }
    EXPECT_LT(RelativeDifference(ToDouble(dx), Flat(naive.dx)), Bound(dtype));
    EXPECT_LT(RelativeDifference(ToDouble(dw), expected), dtype == DType::kF64 ? 1e-13 : 2e-5);
  }
}

TEST(ShortConv, IsTheNaiveOne) {
  for (const Case& c : kCases) {
    for (const DType dtype : kFloatingTypes) {
      for (const ConvForm form : kForms) {
        ExpectNaive(c, form, dtype, false);
        ExpectNaive(c, form, dtype, true);
      }
    }
  }
}

TEST(ShortConv, ThreadsChangeNoBit) {
  const Case c = {2, 1500, 4, 0, {}, 40, 4};
  GuardAllocator memory;
  const Layout layout(c);
  const Tensor x = Normal("x", {3000, c.channels}, DType::kF32, memory);
  const Tensor w = Normal("w", {c.channels, 1, c.taps}, DType::kF32, memory);
  std::vector<std::vector<double>> runs;
  for (const int threads : {1, 3}) {
    Stream stream;
    stream.threads = threads;
    const Tensor dx = Tensor::Empty(x.shape(), DType::kF32, memory);
    const Tensor dw = Tensor::Empty(w.shape(), DType::kF32, memory);
    ShortConvBackward({.dy = x,
                       .x = x,
                       .weight = w,
                       .dx = dx,
                       .dweight = dw,
                       .accumulate = false,
                       .layout = layout.whole,
                       .form = ConvForm::kSilu},
                      stream);
    std::vector<double> run = ToDouble(dx);
    const std::vector<double> weights = ToDouble(dw);
    run.insert(run.end(), weights.begin(), weights.end());
    runs.push_back(run);
  }
  EXPECT_EQ(runs[0], runs[1]);
}

// What one rank of several has of a problem: its rows, and those before its runs.
TEST(ShortConv, PartsWithTheirHalosAreTheWhole) {
  for (const Case& c : {Case{2, 30, 4, 1, {5, 1, 9, 2, 4}, 3, 4},
                        Case{1, 113, 4, 0, {}, 4, 16},
                        Case{1, 29, 1, 0, {}, 2, 5},
                        Case{1, 30, 4, 0, {13, 6, 1}, 3, 9}}) {
    for (const auto& [ranks, form] : {std::pair(2, ConvForm::kResidual),
                                      std::pair(3, ConvForm::kResidual),
                                      std::pair(2, ConvForm::kSilu),
                                      std::pair(3, ConvForm::kSilu)}) {
      SCOPED_TRACE(::testing::Message() << c.tokens << " tokens, " << c.taps << " taps, " << ranks << " ranks");
      GuardAllocator memory;
      const Layout layout(c);
      const SummaryLayout& whole = layout.whole;
      const Tensor x = Normal("x", {whole.text_rows(), c.channels}, DType::kF64, memory);
      const Tensor w = Normal("w", {c.channels, 1, c.taps}, DType::kF64, memory);
      const Tensor dy = Normal("dy", x.shape(), DType::kF64, memory);
      const Naive naive = RunNaive(whole, form, x, w, dy);
      Matrix y(naive.y.size());
      Matrix dx(naive.y.size(), std::vector<double>(static_cast<size_t>(c.channels)));
      std::vector<double> dw(static_cast<size_t>(w.size()));
      for (int32_t rank = 0; rank < ranks; ++rank) {
        const SummaryLayout part = RankLayout(whole, ranks, rank);
        const ConvRows rows = {part, static_cast<int32_t>(c.taps) - 1};
        const auto whole_row = [&](int64_t r) { return WholeRow(whole, part, 0, r); };
        const auto copy = [&](const Tensor& from, int64_t source, const Tensor& to, int64_t row) {
          for (int64_t k = 0; k < c.channels; ++k) {
            SetElement(to, row * c.channels + k, ElementAt(from, source * c.channels + k));
          }
        };
        const Tensor here = Tensor::Empty({part.text_rows(), c.channels}, DType::kF64, memory);
        const Tensor dy_here = Tensor::Empty(here.shape(), DType::kF64, memory);
        for (int64_t r = 0; r < here.rows(); ++r) {
          copy(x, whole_row(r), here, r);
          copy(dy, whole_row(r), dy_here, r);
        }
        const Tensor halo = Tensor::Empty({rows.halo_rows(), c.channels}, DType::kF64, memory);
        // The row of the whole that a row of the halo is; -1: before the sequence.
        std::vector<int64_t> source(static_cast<size_t>(rows.halo_rows()), -1);
        for (int32_t q = 0; q < whole.sequences; ++q) {
          for (int32_t run = 0; run < rows.runs(); ++run) {
            for (int32_t d = 1; d <= rows.reach; ++d) {
              const int32_t token = part.TokenAt(rows.RowsOf(run).begin) - d;
              const int64_t row = rows.HaloRow(q, run, d);
              if (token >= 0) {
                source[static_cast<size_t>(row)] = whole.TextRow(q, token);
                copy(x, whole.TextRow(q, token), halo, row);
              }
            }
          }
        }
        const Tensor out = Tensor::Empty(here.shape(), DType::kF64, memory);
        ShortConvForward({.x = here, .halo = halo, .weight = w, .y = out, .layout = part, .form = form}, {});
        const Tensor dx_here = Tensor::Empty(here.shape(), DType::kF64, memory);
        const Tensor dhalo = Tensor::Empty(halo.shape(), DType::kF64, memory);
        const Tensor dw_here = Tensor::Empty(w.shape(), DType::kF64, memory);
        ShortConvBackward({.dy = dy_here,
                           .x = here,
                           .halo = halo,
                           .weight = w,
                           .dx = dx_here,
                           .dhalo = dhalo,
                           .dweight = dw_here,
                           .accumulate = false,
                           .layout = part,
                           .form = form},
                          {});
        const auto add = [&](const Tensor& from, int64_t row, int64_t to) {
          for (int64_t k = 0; k < c.channels; ++k) {
            dx[static_cast<size_t>(to)][static_cast<size_t>(k)] += ElementAt(from, row * c.channels + k);
          }
        };
        for (int64_t r = 0; r < here.rows(); ++r) {
          y[static_cast<size_t>(whole_row(r))] = ToDouble(out.Rows(r, 1));
          add(dx_here, r, whole_row(r));
        }
        for (int64_t r = 0; r < halo.rows(); ++r) {
          if (source[static_cast<size_t>(r)] >= 0) {
            add(dhalo, r, source[static_cast<size_t>(r)]);
          } else {
            for (int64_t k = 0; k < c.channels; ++k) {
              EXPECT_EQ(ElementAt(dhalo, r * c.channels + k), 0.0) << "before the sequence";
            }
          }
        }
        for (size_t i = 0; i < dw.size(); ++i) {
          dw[i] += ElementAt(dw_here, static_cast<int64_t>(i));
        }
      }
      EXPECT_LT(RelativeDifference(Flat(y), Flat(naive.y)), 1e-13);
      EXPECT_LT(RelativeDifference(Flat(dx), Flat(naive.dx)), 1e-13);
      EXPECT_LT(RelativeDifference(dw, Flat(naive.dw)), 1e-13);
    }
  }
}

TEST(ShortConv, RefusesWhatItCannotDo) {
  GuardAllocator memory;
  const Layout layout(kCases[1]);
  const SummaryLayout part = RankLayout(Layout({1, 24, 4, 0, {}, 3, 4}).whole, 2, 0);
  const Tensor x = Tensor::Zeros({layout.whole.rows(), 5}, DType::kF32, memory);
  const Tensor w = Tensor::Zeros({5, 1, 4}, DType::kF32, memory);
  const Tensor y = Tensor::Zeros(x.shape(), DType::kF32, memory);
  const ShortConvForwardArgs good = {.x = x, .weight = w, .y = y, .layout = layout.whole};
  ShortConvForward(good, {});
  ShortConvForwardArgs bad = good;
  bad.x = x.Rows(0, 3);
  EXPECT_THROW(ShortConvForward(bad, {}), Error) << "rows";
  bad = good;
  const Tensor many = Tensor::Zeros({5, 1, 17}, DType::kF32, memory);
  bad.weight = many;
  EXPECT_THROW(ShortConvForward(bad, {}), Error) << "17 taps";
  bad = good;
  bad.halo = w.view().Reshape({4, 5});
  EXPECT_THROW(ShortConvForward(bad, {}), Error) << "a halo of a whole sequence";
  bad = good;
  bad.x = x.Rows(0, part.text_rows());
  bad.y = y.Rows(0, part.text_rows());
  bad.layout = part;
  EXPECT_THROW(ShortConvForward(bad, {}), Error) << "a part without its halo";
}

}  // namespace
}  // namespace ksa::testing
