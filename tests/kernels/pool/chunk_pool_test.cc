// Pooling against plain loops in double, and its gradients against central differences of those.
#include "kernels/pool/chunk_pool.h"

#include <cmath>
#include <vector>

#include "tests/support/context_layout.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

struct Case {
  SummaryLayout layout;
  int64_t channels;
};

SummaryLayout Layout(int32_t sequences, int32_t tokens, int32_t k, int32_t live) {
  return {.sequences = sequences, .text_tokens = tokens, .chunk_size = k, .summary_tokens = 1, .live_chunks = live};
}

const std::vector<int32_t> kFirstChunk = {0, 0, 2, 3, 3, 5};
const std::vector<int32_t> kChunkTokens = {4, 1, 4, 4, 3, 0};

std::vector<Case> Cases() {
  SummaryLayout documents = Layout(1, 24, 4, 6);
  documents.document_first_chunk = kFirstChunk.data();
  documents.chunk_tokens = kChunkTokens.data();
  const SummaryLayout part = RankLayout(Layout(1, 47, 5, 7), 2, 0);  // chunks 0, 1 and 7, 8, of which 3 have entries
  return {{Layout(1, 5, 4, 1), 6},
          {Layout(2, 29, 8, 2), 33},
          {Layout(1, 7, 1, 7), 5},
          {Layout(1, 300, 128, 2), 3},
          {documents, 65},
          {part, 4}};
}

// One element of every argument, by number.
struct Problem {
  SummaryLayout layout;
  Tensor gate, bias, k, v;

  [[nodiscard]] bool IsWhole(int32_t q, int32_t place) const {
    return layout.ChunkTokens(q, layout.ChunkAt(place)) == layout.chunk_size;
  }

  // Channel c of the entry of a chunk of x.
  [[nodiscard]] double Pooled(const Tensor& x, int32_t q, int32_t place, int64_t c) const {
    const int64_t cols = x.cols();
    double total = 0.0;
    double sum = 0.0;
    for (int32_t s = 0; s < layout.chunk_size && IsWhole(q, place); ++s) {
      const int64_t row = layout.TextRow(q, place * layout.chunk_size + s);
      const double weight = std::exp(ElementAt(gate, row * cols + c) + ElementAt(bias, s * cols + c));
      total += weight;
      sum += weight * ElementAt(x, row * cols + c);
    }
    return total == 0.0 ? 0.0 : sum / total;
  }

  [[nodiscard]] std::vector<double> AllPooled(const Tensor& x) const {
    std::vector<double> pooled;
    for (int32_t q = 0; q < layout.sequences; ++q) {
      for (int32_t place = 0; place < layout.live_chunks; ++place) {
        for (int64_t c = 0; c < x.cols(); ++c) {
          pooled.push_back(Pooled(x, q, place, c));
        }
      }
    }
    return pooled;
  }
};

Problem MakeProblem(const Case& c, DType dtype, Allocator& memory) {
  const int64_t rows = PooledRows(c.layout);
  return {c.layout,
          Normal("gate", {rows, c.channels}, dtype, memory),
          Normal("bias", {c.layout.chunk_size, c.channels}, dtype, memory),
          Normal("k", {c.layout.text_rows(), c.channels}, dtype, memory),  // rows behind the last entry's reach nothing
          Normal("v", {rows, c.channels}, dtype, memory)};
}

// fp32: Exp is within 1e-7, and a softmax of 128; bf16: one rounding.
double Bound(DType dtype) {
  return dtype == DType::kF64 ? 1e-13 : dtype == DType::kF32 ? 2e-6 : 8e-3;
}

TEST(ChunkPool, IsTheNaiveOne) {
  for (const Case& c : Cases()) {
    for (const DType dtype : kFloatingTypes) {
      SCOPED_TRACE(::testing::Message() << c.layout.text_tokens << " tokens, " << NameOf(dtype));
      GuardAllocator memory;
      const Problem p = MakeProblem(c, dtype, memory);
      const Tensor yk = Tensor::Empty({c.layout.summary_rows(), c.channels}, dtype, memory);
      const Tensor yv = Tensor::Empty(yk.shape(), dtype, memory);
      ChunkPoolForward({.gate = p.gate, .bias = p.bias, .x = {p.k, p.v}, .y = {yk, yv}, .layout = c.layout}, {});
      EXPECT_LT(RelativeDifference(ToDouble(yk), p.AllPooled(p.k)), Bound(dtype));
      EXPECT_LT(RelativeDifference(ToDouble(yv), p.AllPooled(p.v)), Bound(dtype));
      const Tensor alone = Tensor::Empty(yk.shape(), dtype, memory);
      ChunkPoolForward({.gate = p.gate, .bias = p.bias, .x = {p.v}, .y = {alone}, .layout = c.layout}, {});
      ExpectSameBits(alone, yv, "one matrix or two");
    }
  }
}

// What is pooled, weighed by fixed numbers, as a function of one element.
double Weighed(const Problem& p, const Tensor& dyk, const Tensor& dyv) {
  double sum = 0.0;
  const std::vector<double> k = p.AllPooled(p.k);
  const std::vector<double> v = p.AllPooled(p.v);
  for (size_t i = 0; i < k.size(); ++i) {
    sum += k[i] * ElementAt(dyk, static_cast<int64_t>(i)) + v[i] * ElementAt(dyv, static_cast<int64_t>(i));
  }
  return sum;
}

TEST(ChunkPool, GradientsAreThoseOfCentralDifferences) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(::testing::Message() << c.layout.text_tokens << " tokens");
    GuardAllocator memory;
    const Problem p = MakeProblem(c, DType::kF64, memory);
    const Tensor dyk = Normal("dyk", {c.layout.summary_rows(), c.channels}, DType::kF64, memory);
    const Tensor dyv = Normal("dyv", dyk.shape(), DType::kF64, memory);
    const Tensor dgate = Tensor::Empty(p.gate.shape(), DType::kF64, memory);
    const Tensor dk = Tensor::Empty(p.k.shape(), DType::kF64, memory);
    const Tensor dv = Tensor::Empty(p.v.shape(), DType::kF64, memory);
    const Tensor dbias = Normal("before", p.bias.shape(), DType::kF64, memory);
    const std::vector<double> before = ToDouble(dbias);
    ChunkPoolBackward({.gate = p.gate,
                       .bias = p.bias,
                       .x = {p.k, p.v},
                       .dy = {dyk, dyv},
                       .dgate = dgate,
                       .dx = {dk, dv},
                       .dbias = dbias,
                       .layout = c.layout},
                      {});
    const auto check = [&](const char* name, const Tensor& x, const std::vector<double>& gradient) {
      for (int64_t trial = 0; trial < 12; ++trial) {
        const int64_t i =
            static_cast<int64_t>(Philox4x32(NamedKey(7, name), static_cast<uint64_t>(trial))[0]) % x.size();
        const double value = ElementAt(x, i);
        const auto at = [&](double step) {
          SetElement(x, i, value + step);
          return Weighed(p, dyk, dyv);
        };
        const double numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        SetElement(x, i, value);
        EXPECT_NEAR(gradient[static_cast<size_t>(i)], numeric, 1e-7) << name << " " << i;
      }
    };
    check("gate", p.gate, ToDouble(dgate));
    check("k", p.k, ToDouble(dk));
    check("v", p.v, ToDouble(dv));
    std::vector<double> added = ToDouble(dbias);
    for (size_t i = 0; i < added.size(); ++i) {
      added[i] -= before[i];
    }
    check("bias", p.bias, added);
  }
}

// Logits of 5000: only their differences count.
TEST(ChunkPool, LargeLogits) {
  GuardAllocator memory;
  const Case c = {Layout(1, 40, 8, 5), 6};
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const Problem p = MakeProblem(c, dtype, memory);
    const Tensor y = Tensor::Empty({5, 6}, dtype, memory);
    ChunkPoolForward({.gate = p.gate, .bias = p.bias, .x = {p.k}, .y = {y}, .layout = c.layout}, {});
    const std::vector<double> expected = ToDouble(y);
    for (int64_t i = 0; i < p.gate.size(); ++i) {
      SetElement(p.gate, i, ElementAt(p.gate, i) + 5000.0);
    }
    ChunkPoolForward({.gate = p.gate, .bias = p.bias, .x = {p.k}, .y = {y}, .layout = c.layout}, {});
    // What a logit of 5000 is rounded to: 2^-11 in fp32, 2^-40 in fp64.
    EXPECT_LT(RelativeDifference(ToDouble(y), expected), dtype == DType::kF64 ? 1e-11 : 2e-3);
  }
}

TEST(ChunkPool, ThreadsChangeNoBit) {
  GuardAllocator memory;
  const Case c = {Layout(2, 800, 8, 90), 100};
  const Problem p = MakeProblem(c, DType::kBF16, memory);
  const Tensor dy = Normal("dy", {c.layout.summary_rows(), c.channels}, DType::kBF16, memory);
  std::vector<Tensor> biases;
  for (const int threads : {1, 3}) {
    Stream stream;
    stream.threads = threads;
    const Tensor dgate = Tensor::Empty(p.gate.shape(), DType::kBF16, memory);
    const Tensor dk = Tensor::Empty(p.k.shape(), DType::kBF16, memory);
    biases.push_back(Tensor::Empty(p.bias.shape(), DType::kF32, memory));
    ChunkPoolBackward({.gate = p.gate,
                       .bias = p.bias,
                       .x = {p.k},
                       .dy = {dy},
                       .dgate = dgate,
                       .dx = {dk},
                       .dbias = biases.back(),
                       .accumulate = false,
                       .layout = c.layout},
                      stream);
  }
  ExpectSameBits(biases[0], biases[1], "gradients of the bias");
}

TEST(ChunkPool, RefusesWhatItCannotDo) {
  GuardAllocator memory;
  const Case c = {Layout(1, 20, 4, 3), 2};
  const Problem p = MakeProblem(c, DType::kF32, memory);
  const Tensor y = Tensor::Empty({3, 2}, DType::kF32, memory);
  const ChunkPoolForwardArgs good = {.gate = p.gate, .bias = p.bias, .x = {p.k}, .y = {y}, .layout = c.layout};
  ChunkPoolForward(good, {});
  ChunkPoolForwardArgs bad = good;
  bad.layout.summary_tokens = 2;
  EXPECT_THROW(ChunkPoolForward(bad, {}), Error) << "two entries a chunk";
  bad = good;
  bad.gate = p.gate.Rows(0, 11);
  EXPECT_THROW(ChunkPoolForward(bad, {}), Error) << "a row too few";
  bad = good;
  bad.bias = p.bias.Rows(0, 3);
  EXPECT_THROW(ChunkPoolForward(bad, {}), Error) << "a slot too few";
  bad = good;
  bad.y[0] = y.Rows(0, 2);
  EXPECT_THROW(ChunkPoolForward(bad, {}), Error) << "an entry too few";
}

}  // namespace
}  // namespace ksa::testing
