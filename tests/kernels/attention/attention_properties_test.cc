// What holds of the attention kernels bit by bit: threads, documents, padding, memory; and which arguments they refuse.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"
#include "tests/kernels/attention/attention_case.h"

namespace ksa::testing {
namespace {

AttentionCase Plain(int32_t text, const AttentionWindow& window) {
  AttentionCase c;
  c.layout = {.sequences = 1, .text_tokens = text, .chunk_size = 8, .summary_tokens = 1};
  c.layout.live_chunks = c.layout.chunks();
  c.window = window;
  c.heads = 4;
  c.groups = 2;
  return c;
}

// The first two are large enough for more than one thread.
std::vector<AttentionCase> Cases() {
  std::vector<AttentionCase> cases = {Plain(600, AttentionWindow::Ksa(4)), Plain(550, AttentionWindow::Full())};
  for (uint64_t i = 0; i < 5; ++i) {
    cases.push_back(MakeCase(1000 + i));
  }
  return cases;
}

TEST(AttentionProperties, SameBitsForAllThreadCountsAndRuns) {
  HostAllocator pool;
  for (const DType dtype : kFloatingTypes) {
    for (const AttentionCase& c : Cases()) {
      SCOPED_TRACE(c.Describe());
      const auto run = [&](const Stream& stream) {
        const AttentionTensors tensors(c, dtype, pool);
        tensors.Run(c, stream, &pool);
        return std::vector<Tensor>{tensors.out, tensors.lse, tensors.dq, tensors.dk, tensors.dv};
      };
      ExpectSameForAllThreadCounts(run);
      const std::vector<Tensor> first = run({.device = {}, .threads = 3});
      const std::vector<Tensor> second = run({.device = {}, .threads = 3});
      for (size_t i = 0; i < first.size(); ++i) {
        ExpectSameBits(first[i], second[i], "an output of a second run");
      }
    }
  }
}

// Whether row `row` belongs to the document that begins at chunk `first` of sequence 0.
bool InDocument(const SummaryLayout& layout, int64_t row, int32_t first) {
  const bool is_text = row < layout.text_rows();
  const int64_t local = is_text ? row : row - layout.text_rows();
  const int64_t per_sequence = is_text ? layout.text_tokens : layout.live_summaries();
  const int32_t per_chunk = is_text ? layout.chunk_size : layout.summary_tokens;
  const auto chunk = static_cast<int32_t>(local % per_sequence / per_chunk);
  return local < per_sequence && layout.DocumentChunk(0, chunk) == first;
}

// Compares the rows of `a` and `b` outside of the document; inside, something must have changed.
void ExpectOnlyDocumentChanged(
    const SummaryLayout& layout, int32_t first, const TensorView& a, const TensorView& b, std::string_view what) {
  bool changed = false;
  for (int64_t row = 0; row < a.rows(); ++row) {
    const TensorView x = a.Rows(row, 1);
    const TensorView y = b.Rows(row, 1);
    const bool same = std::memcmp(x.data, y.data, static_cast<size_t>(x.bytes())) == 0;
    if (InDocument(layout, row, first)) {
      changed = changed || !same;
    } else {
      EXPECT_TRUE(same) << what << " of row " << row << ", which is of another document";
    }
  }
  EXPECT_TRUE(changed) << what;
}

TEST(AttentionProperties, ADocumentChangesNoBitOfAnother) {
  HostAllocator pool;
  for (const AttentionWindow& window : {AttentionWindow::Ksa(1),
                                        AttentionWindow::Full(),
                                        AttentionWindow::SlidingTokens(9),
                                        AttentionWindow::SlidingChunks(2)}) {
    AttentionCase c = Plain(203, window);
    c.layout.chunk_size = 4;
    c.layout.live_chunks = c.layout.chunks();
    c.layout.sequences = 2;
    c.Pack([](int32_t i) { return (i + 2) * 17 % 41; });
    const SummaryLayout layout = c.Layout();
    const int32_t first = layout.DocumentChunk(0, 12);
    const AttentionTensors before(c, DType::kF32, pool);
    before.Run(c, {}, &pool);
    const AttentionTensors after(before, DType::kF32, pool);
    for (const Tensor* x : {&after.q, &after.k, &after.v, &after.dout}) {
      for (int64_t i = 0; i < x->size(); ++i) {
        x->As<float>()[i] *= InDocument(layout, i / x->cols(), first) ? -3.0F : 1.0F;
      }
    }
    after.Run(c, {}, &pool);
    ExpectOnlyDocumentChanged(layout, first, before.out, after.out, "out");
    ExpectOnlyDocumentChanged(layout, first, before.lse, after.lse, "lse");
    ExpectOnlyDocumentChanged(layout, first, before.dq, after.dq, "dq");
    ExpectOnlyDocumentChanged(layout, first, before.dk, after.dk, "dk");
    ExpectOnlyDocumentChanged(layout, first, before.dv, after.dv, "dv");
  }
}

TEST(AttentionProperties, PaddingIsZero) {
  HostAllocator pool;
  AttentionCase c = Plain(61, AttentionWindow::Ksa(1));
  c.Pack([](int32_t i) { return std::vector<int32_t>{11, 0, 5, 18, 3}[static_cast<size_t>(i)]; });
  const AttentionTensors tensors(c, DType::kF32, pool);
  tensors.Run(c, {}, &pool);
  int padding = 0;
  for (int32_t i = 0; i < c.layout.text_tokens; ++i) {
    if (!c.Layout().IsPadding(0, i)) {
      continue;
    }
    ++padding;
    for (int64_t head = 0; head < c.heads; ++head) {
      EXPECT_EQ(ElementAt(tensors.lse, i * c.heads + head), -std::numeric_limits<double>::infinity());
    }
    for (const Tensor* x : {&tensors.out, &tensors.dq, &tensors.dk, &tensors.dv}) {
      for (int64_t d = 0; d < x->cols(); ++d) {
        EXPECT_EQ(ElementAt(*x, i * x->cols() + d), 0.0) << "row " << i;
      }
    }
  }
  EXPECT_EQ(padding, 5 + 8 + 3 + 6 + 2);
}

TEST(AttentionProperties, NotANumberStaysInItsRow) {
  HostAllocator pool;
  const AttentionCase c = Plain(50, AttentionWindow::Ksa(2));
  const AttentionTensors tensors(c, DType::kF32, pool);
  const int64_t bad = 20;
  tensors.q.As<float>()[bad * tensors.q.cols() + 3] = std::numeric_limits<float>::quiet_NaN();
  AttentionForward(tensors.Forward(c, &pool), {});
  for (int64_t i = 0; i < tensors.out.size(); ++i) {
    const bool is_bad = i / c.dim == bad * c.heads;  // head 0 of the row
    EXPECT_EQ(std::isnan(ElementAt(tensors.out, i)), is_bad) << i;
  }
}

TEST(AttentionProperties, TakesNoMemoryAfterTheFirstCall) {
  HostAllocator pool;
  const AttentionCase c = Plain(600, AttentionWindow::Ksa(3));
  const AttentionTensors tensors(c, DType::kF32, pool);
  tensors.Run(c, {.device = {}, .threads = 2}, &pool);
  const int64_t reserved = pool.reserved_bytes();
  const int64_t current = pool.use().current;
  tensors.Run(c, {.device = {}, .threads = 2}, &pool);
  EXPECT_EQ(pool.reserved_bytes(), reserved);
  EXPECT_EQ(pool.use().current, current);
}

TEST(AttentionProperties, RunsWithoutAnAllocatorAndWithoutRows) {
  HostAllocator pool;
  const AttentionCase c = Plain(20, AttentionWindow::Full());
  const AttentionTensors with(c, DType::kF32, pool);
  const AttentionTensors without(c, DType::kF32, pool);
  with.Run(c, {}, &pool);
  without.Run(c, {}, nullptr);
  ExpectSameBits(with.dk, without.dk, "dk");
  const AttentionCase empty = Plain(0, AttentionWindow::Full());
  const AttentionTensors nothing(empty, DType::kF32, pool);
  EXPECT_NO_THROW(nothing.Run(empty, {}, &pool));
}

TEST(AttentionProperties, RefusesWrongArguments) {
  HostAllocator pool;
  const AttentionCase c = Plain(20, AttentionWindow::Ksa(1));
  const AttentionTensors tensors(c, DType::kF32, pool);
  const AttentionTensors doubles(c, DType::kF64, pool);

  struct Mistake {
    std::string message;
    std::function<void(AttentionForwardArgs&)> make;
  };

  const int64_t rows = c.layout.rows();
  const std::vector<Mistake> mistakes = {
      {"k should be fp32, it is fp64", [&](auto& a) { a.k = doubles.k; }},
      {"lse should be fp32, it is fp64", [&](auto& a) { a.lse = doubles.lse; }},
      {"q should be fp64, fp32 or bf16", [&](auto& a) { a.q.dtype = DType::kI32; }},
      {"v should have shape", [&](auto& a) { a.v = a.v.Rows(0, 5); }},
      {"out is missing", [&](auto& a) { a.out.data = nullptr; }},
      {"cannot share",
       [&](auto& a) {
         a.q = a.q.Reshape({rows, 1, 32});
       }},
      {"5 rows; the layout has 23 rows, 20 of text", [&](auto& a) { a.q = a.q.Rows(0, 5); }},
      {"q holds summary rows but k and v hold text rows only", [&](auto& a) { a.k = a.k.Rows(0, 20); }},
      {"a window of -1 chunks", [&](auto& a) { a.window.chunks = -1; }},
      {"its path is kAuto", [&](auto& a) { a.path = AttentionPath::kPlain; }},
      {"only 0 are live",
       [&](auto& a) {
         a.layout.live_chunks = 0;
         a.q = a.q.Rows(0, 20);
         a.k = a.k.Rows(0, 20);
       }},
  };
  for (const Mistake& mistake : mistakes) {
    AttentionForwardArgs args = tensors.Forward(c, &pool);
    mistake.make(args);
    try {
      AttentionForward(args, {});
      ADD_FAILURE() << "accepted: " << mistake.message;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(mistake.message), std::string::npos) << error.what();
    }
  }
  AttentionBackwardArgs backward = tensors.Backward(c, &pool);
  backward.dk = tensors.dq;
  EXPECT_THROW(AttentionBackward(backward, {}), Error);
  EXPECT_THROW(AttentionForward(tensors.Forward(c, &pool), {.device = {}, .threads = 0}), Error);
}

}  // namespace
}  // namespace ksa::testing
