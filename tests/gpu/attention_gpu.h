// What the tests of attention on the GPU share: the paths, and the comparison of a case on one of them with the CPU.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>

#include "tests/gpu/support.h"
#include "tests/kernels/attention/attention_case.h"

namespace ksa::testing {

struct PathName {
  AttentionPath path;
  const char* name;
};

inline constexpr PathName kPaths[] = {{AttentionPath::kPlain, "Plain"},
                                      {AttentionPath::kMma, "Mma"},
                                      {AttentionPath::kWgmma, "Wgmma"},
                                      {AttentionPath::kCudnn, "Cudnn"}};

inline bool TakesTensorCores(const AttentionCase& c, DType dtype) {
  return dtype == DType::kBF16 && (c.dim == 64 || c.dim == 128) && c.ValueDim() == c.dim;
}

// Heads made of latents, of which tensor cores take these.
inline bool TakesLatents(const AttentionCase& c, DType dtype) {
  return dtype == DType::kBF16 && c.dim == 192 && c.ValueDim() == 128;
}

// cuDNN does full layers without documents, from 128 tokens on, and of a part of a sequence only its beginning.
inline bool Supports(AttentionPath path, const AttentionCase& c, DType dtype) {
  const bool full = c.window.chunks == AttentionWindow::kUnlimited && c.window.tokens == AttentionWindow::kUnlimited;
  const bool from_start = c.text_queries && c.layout.first_chunk == 0 && c.layout.AllTextIsQuery();
  switch (path) {
    case AttentionPath::kCudnn:
      return (TakesTensorCores(c, dtype) || TakesLatents(c, dtype)) && c.scale == 0.0 && full && from_start &&
             c.first_chunk.empty() && c.layout.text_tokens >= 128;
    case AttentionPath::kMma:
    case AttentionPath::kWgmma:
      return TakesTensorCores(c, dtype) || TakesLatents(c, dtype);
    default:
      return true;
  }
}

inline std::string RowName(const SummaryLayout& layout, int64_t row) {
  if (row < layout.text_rows()) {
    return fmt::format("text {} of sequence {}", row % layout.text_tokens, row / layout.text_tokens);
  }
  const int64_t summary = (row - layout.text_rows()) % layout.live_summaries();
  return fmt::format("summary {} of chunk {} of sequence {}",
                     summary % layout.summary_tokens,
                     summary / layout.summary_tokens,
                     (row - layout.text_rows()) / layout.live_summaries());
}

// The layout's row of row 0 of q.
inline int64_t FirstQueryRow(const AttentionCase& c) {
  return c.text_queries ? c.layout.query_begin : c.layout.text_rows();
}

using Values = std::vector<double>;

// Root of the mean square of `count` elements from `first` on; of their difference from `exact` when it is given.
inline double Rms(const Values& x, const Values* exact, int64_t first, int64_t count) {
  double sum = 0.0;
  for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(first + count); ++i) {
    const double value = x[i] - (exact == nullptr ? 0.0 : (*exact)[i]);
    sum += value * value;
  }
  return std::sqrt(sum / static_cast<double>(std::max<int64_t>(1, count)));
}

// Compares one output [rows, heads, e] of a path with the CPU's.
//
// Whole tensor: the root mean square error is at most twice that of the CPU in the same type. Tensor cores round the
// softmax weights and their gradients to bf16, which costs as much again as rounding the result does: a factor of 1.4
// on random numbers. Each row of a head: the same plus a rounding of its magnitude (in fp32, where sums of a thousand
// terms in another order differ by more than the result's own rounding: 16), since a few elements may be exact by luck;
// a key that is missing among a thousand moves its row by eight times that.
//
// `floor`: what rounding leaves of sums that cancel (the gradient of a query that sees one key is 0). `noise`, for dq:
// the rounding of `out` moves delta, and with it a row's dq by about as much as `noise` is rounded by (q, k and dout
// are standard normal); where a row sees few keys this is all its error, and luck whether plain has it.
class Comparison {
 public:
  // `first_row`: the layout's row of row 0 of the output.
  Comparison(const SummaryLayout& layout, int64_t first_row, std::string_view what, double floor)
      : layout_(layout), first_row_(first_row), what_(what), floor_(floor) {}

  void Expect(const TensorView& actual,
              const TensorView& plain,
              const TensorView& exact,
              const TensorView* noise = nullptr) const {
    const Values got = ToDouble(actual);
    const Values same_type = ToDouble(plain);
    const Values want = ToDouble(exact);
    const Values noisy = noise == nullptr ? Values() : ToDouble(*noise);
    const int64_t noise_dim = noise == nullptr ? 0 : noise->shape[2];
    const int64_t size = exact.size();
    const int64_t dim = exact.shape[2];
    const double rounding = (actual.dtype == DType::kBF16 ? 1 : 16) * UnitRoundoff(actual.dtype);
    const double magnitude = Rms(want, nullptr, 0, size);
    EXPECT_LE(Rms(got, &want, 0, size), 2.0 * Rms(same_type, &want, 0, size) + floor_) << what_ << " as a whole";
    for (int64_t i = 0; i < size; i += dim) {
      const double scale =
          std::max(magnitude, Rms(want, nullptr, i, dim)) + Rms(noisy, nullptr, i / dim * noise_dim, noise_dim);
      const double allowed = 2.0 * Rms(same_type, &want, i, dim) + rounding * scale + floor_;
      const double error = Rms(got, &want, i, dim);
      if (!(error <= allowed)) {
        const int64_t worst = Worst(got, want, i, dim);
        const int64_t row = i / dim / exact.shape[1];
        ADD_FAILURE() << what_ << " [row " << row << " (" << RowName(layout_, first_row_ + row) << "), head "
                      << i / dim % exact.shape[1] << ", e " << worst - i << "]: expected "
                      << want[static_cast<size_t>(worst)] << ", got " << got[static_cast<size_t>(worst)]
                      << "; the row errs by " << error << ", allowed " << allowed;
        return;
      }
    }
  }

 private:
  static int64_t Worst(const Values& actual, const Values& exact, int64_t first, int64_t count) {
    int64_t worst = first;
    double largest = -1.0;
    for (int64_t i = first; i < first + count; ++i) {
      const double error = std::abs(actual[static_cast<size_t>(i)] - exact[static_cast<size_t>(i)]);
      if (!(error <= largest)) {
        worst = i;
        largest = std::isnan(error) ? HUGE_VAL : error;
      }
    }
    return worst;
  }

  SummaryLayout layout_;
  int64_t first_row_;
  std::string_view what_;
  double floor_;
};

class AttentionGpu : public GpuTest, public ::testing::WithParamInterface<PathName> {
 protected:
  // Forward and backward on the GPU, twice; the results in host memory.
  std::array<AttentionTensors, 2> RunTwice(const AttentionCase& c, const AttentionTensors& inputs, AttentionPath path) {
    SummaryLayout layout = c.Layout();
    const Tensor first = Upload(c.first_chunk);
    const Tensor tokens = Upload(c.chunk_tokens);
    layout.document_first_chunk = first.As<int32_t>();
    layout.chunk_tokens = tokens.As<int32_t>();
    AttentionTensors on_gpu = inputs;
    for (Tensor* x : {&on_gpu.q, &on_gpu.k, &on_gpu.v, &on_gpu.dout}) {
      *x = ToGpu(*x);
    }
    std::array<AttentionTensors, 2> runs = {on_gpu, on_gpu};
    for (AttentionTensors& run : runs) {
      run.MakeOutputs(device());
      AttentionForwardArgs forward = run.Forward(c, &device());
      AttentionBackwardArgs backward = run.Backward(c, &device());
      forward.layout = backward.layout = layout;
      forward.path = backward.path = path;
      AttentionForward(forward, stream());
      AttentionBackward(backward, stream());
      for (Tensor* x : {&run.out, &run.lse, &run.dq, &run.dk, &run.dv}) {
        *x = ToCpu(*x);
      }
    }
    return runs;
  }

  void ExpectMatchesTheCpu(const AttentionCase& c, DType dtype) {
    SCOPED_TRACE(c.Describe());
    const AttentionTensors plain(c, dtype, host());
    const AttentionTensors exact(plain, DType::kF64, host());
    const Stream cpu = {.device = {}, .threads = 16};
    plain.Run(c, cpu, nullptr);
    exact.Run(c, cpu, nullptr);
    const auto [actual, again] = RunTwice(c, plain, GetParam().path);
    ExpectSameLse(c, actual.lse, exact.lse, dtype);
    // Products of standard normal rows are of the order of sqrt(e); they are rounded in fp32, and dq and dk are sums of
    // such differences times 1/sqrt(e).
    const double floor = 1e-6;
    Comparison(c.layout, FirstQueryRow(c), "out", floor).Expect(actual.out, plain.out, exact.out);
    Comparison(c.layout, FirstQueryRow(c), "dq", floor).Expect(actual.dq, plain.dq, exact.dq, &exact.out.view());
    Comparison(c.layout, 0, "dk", floor).Expect(actual.dk, plain.dk, exact.dk);
    Comparison(c.layout, 0, "dv", floor).Expect(actual.dv, plain.dv, exact.dv);
    ExpectUnseenAreZero(actual, exact);
    ExpectSameBits(again.out, actual.out, "out of a second run");
    ExpectSameBits(again.lse, actual.lse, "lse of a second run");
    ExpectSameBits(again.dq, actual.dq, "dq of a second run");
    ExpectSameBits(again.dk, actual.dk, "dk of a second run");
    ExpectSameBits(again.dv, actual.dv, "dv of a second run");
  }

  // The plain path takes both types with every head dim; one type a case is enough, in turns.
  void ExpectMatchTheCpu(const std::vector<AttentionCase>& cases) {
    for (size_t i = 0; i < cases.size(); ++i) {
      for (const DType dtype : {DType::kBF16, DType::kF32}) {
        const bool in_turn = GetParam().path != AttentionPath::kPlain || (i % 2 == 0) == (dtype == DType::kBF16);
        if (!in_turn || !Supports(GetParam().path, cases[i], dtype)) {
          continue;
        }
        try {
          ExpectMatchesTheCpu(cases[i], dtype);
        } catch (const Error& error) {
          if (GetParam().path == AttentionPath::kCudnn &&
              std::string(error.what()).find("needs cuDNN") != std::string::npos) {
            GTEST_SKIP() << error.what();
          }
          FAIL() << error.what();
        }
      }
    }
  }

 private:
  Tensor Upload(const std::vector<int32_t>& values) {
    if (values.empty()) {
      return {};
    }
    const Tensor copy = Tensor::Empty({static_cast<int64_t>(values.size())}, DType::kI32, host());
    std::copy(values.begin(), values.end(), copy.As<int32_t>());
    return ToGpu(copy);
  }

  // lse errs by the rounding of scores of its own size; tensor cores keep two bits less of a sum than fp32 has.
  void ExpectSameLse(const AttentionCase& c, const TensorView& actual, const TensorView& exact, DType dtype) {
    const double unit = dtype == DType::kBF16 ? 4e-6 : 1e-6;
    const int64_t heads = exact.shape[1];
    for (int64_t i = 0; i < exact.size(); ++i) {
      const double want = ElementAt(exact, i);
      const double got = ElementAt(actual, i);
      if (!(got == want || std::abs(got - want) <= unit * std::max(1.0, std::abs(want)))) {
        ADD_FAILURE() << "lse [row " << i / heads << " (" << RowName(c.layout, FirstQueryRow(c) + i / heads)
                      << "), head " << i % heads << "]: expected " << want << ", got " << got;
        return;
      }
    }
  }

  // Rows without keys have no output and no dq; keys without readers no dk and dv. Exactly.
  static void ExpectUnseenAreZero(const AttentionTensors& actual, const AttentionTensors& exact) {
    const int64_t dim = exact.q.shape()[2];
    const int64_t value_dim = exact.v.shape()[2];
    const Values out = ToDouble(actual.out);
    const Values dq = ToDouble(actual.dq);
    const Values dk = ToDouble(actual.dk);
    const Values dv = ToDouble(actual.dv);
    const Values exact_dv = ToDouble(exact.dv);
    for (int64_t i = 0; i < exact.lse.size(); ++i) {
      if (std::isinf(ElementAt(exact.lse, i))) {
        EXPECT_EQ(Rms(out, nullptr, i * value_dim, value_dim), 0.0) << "out of row " << i / exact.lse.shape()[1];
        EXPECT_EQ(Rms(dq, nullptr, i * dim, dim), 0.0) << "dq of row " << i / exact.lse.shape()[1];
      }
    }
    for (int64_t i = 0; i < exact.dv.size() / value_dim; ++i) {
      if (Rms(exact_dv, nullptr, i * value_dim, value_dim) == 0.0) {
        EXPECT_EQ(Rms(dk, nullptr, i * dim, dim), 0.0) << "dk of row " << i / exact.dk.shape()[1];
        EXPECT_EQ(Rms(dv, nullptr, i * value_dim, value_dim), 0.0) << "dv of row " << i / exact.dk.shape()[1];
      }
    }
  }
};

}  // namespace ksa::testing
