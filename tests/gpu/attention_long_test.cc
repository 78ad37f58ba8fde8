// Sequences whose tiles are more than the 65,535 blocks that a grid has along y: from 4.19M tokens on with tiles of 64
// rows, from 8.39M with tiles of 128. What a row sees lies within its window, so the last rows must be those of a short
// sequence that ends alike, in bits.
#include <cstdint>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/attention/attention.h"
#include "kernels/core/arena.h"
#include "tests/gpu/attention_gpu.h"
#include "tests/gpu/support.h"

namespace ksa::testing {
namespace {

constexpr int64_t kBlockRows = 4096;  // the text repeats
constexpr int64_t kBlocks = 2049;     // 65,568 tiles of 128 rows
constexpr int64_t kCompared = 2048;   // rows at the end, beyond the window's reach of the short sequence's begin
constexpr int64_t kDim = 64;
constexpr int64_t kMemory = int64_t{12} << 30;
const AttentionWindow kWindow = AttentionWindow::SlidingChunks(15);

class GpuLongAttentionTest : public GpuTest, public ::testing::WithParamInterface<PathName> {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) {
      return;
    }
    if (QueryGpu(0).free_bytes < kMemory + (int64_t{1} << 30)) {
      GTEST_SKIP() << "needs " << (kMemory >> 30) << " GiB of GPU memory";
    }
    if (GetParam().path == AttentionPath::kWgmma && QueryGpu(0).major != 9) {
      GTEST_SKIP() << "this path is for compute capability 9.0";
    }
  }

  static SummaryLayout LayoutOf(int64_t blocks) {
    SummaryLayout layout;
    layout.text_tokens = static_cast<int32_t>(blocks * kBlockRows);
    layout.chunk_size = 8;
    return layout;
  }

  // out, dq, dk and dv of the last rows.
  std::vector<Tensor> LastRows(int64_t blocks, Allocator& memory) {
    const int64_t rows = blocks * kBlockRows;
    const auto repeated = [&](const char* name) {
      const Tensor block = ToGpu(Normal(name, {kBlockRows, 1, kDim}, DType::kBF16, host()));
      Tensor all = Tensor::Empty({rows, 1, kDim}, DType::kBF16, memory);
      for (int64_t i = 0; i < blocks; ++i) {
        Copy(block, all.view().Rows(i * kBlockRows, kBlockRows), stream());
      }
      Synchronize(stream());
      return all;
    };
    const auto empty = [&] { return Tensor::Empty({rows, 1, kDim}, DType::kBF16, memory); };
    const Tensor q = repeated("q");
    const Tensor k = repeated("k");
    const Tensor v = repeated("v");
    const Tensor dout = repeated("dout");
    const Tensor out = empty();
    const Tensor dq = empty();
    const Tensor dk = empty();
    const Tensor dv = empty();
    const Tensor lse = Tensor::Empty({rows, 1}, DType::kF32, memory);
    AttentionForward({.q = q,
                      .k = k,
                      .v = v,
                      .out = out,
                      .lse = lse,
                      .layout = LayoutOf(blocks),
                      .window = kWindow,
                      .path = GetParam().path,
                      .allocator = &memory},
                     stream());
    AttentionBackward({.q = q,
                       .k = k,
                       .v = v,
                       .out = out,
                       .lse = lse,
                       .dout = dout,
                       .dq = dq,
                       .dk = dk,
                       .dv = dv,
                       .layout = LayoutOf(blocks),
                       .window = kWindow,
                       .path = GetParam().path,
                       .allocator = &memory},
                      stream());
    std::vector<Tensor> last;
    for (const Tensor* x : {&out, &dq, &dk, &dv}) {
      last.push_back(ToCpu(x->view().Rows(rows - kCompared, kCompared)));
    }
    return last;
  }
};

TEST_P(GpuLongAttentionTest, LastRowsAreThoseOfAShortSequence) {
  GpuSlabs slabs(stream().device.ordinal);
  ArenaAllocator memory(slabs, kMemory);
  const std::vector<Tensor> expected = LastRows(1, memory);
  const std::vector<Tensor> actual = LastRows(kBlocks, memory);
  const char* names[] = {"out", "dq", "dk", "dv"};
  for (size_t i = 0; i < expected.size(); ++i) {
    ExpectSameBits(actual[i], expected[i], names[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Paths,
                         GpuLongAttentionTest,
                         ::testing::Values(kPaths[0], kPaths[1], kPaths[2]),
                         [](const auto& path) { return path.param.name; });

// Sequences instead of tiles: the summaries' kernel has a block for each at least.
TEST_F(GpuTest, SummariesOfVeryManySequences) {
  constexpr int32_t kSequences = 70000;
  SummaryLayout layout;
  layout.sequences = kSequences;
  layout.text_tokens = 2;
  layout.chunk_size = 2;
  layout.summary_tokens = 1;
  layout.live_chunks = 1;
  const auto rows = [&](const char* name, int64_t sequences) {
    // Text of all sequences, then their summaries; all sequences alike.
    const Tensor one = Normal(name, {3, 1, kDim}, DType::kBF16, host());
    const Tensor all = Tensor::Empty({3 * sequences, 1, kDim}, DType::kBF16, host());
    for (int64_t s = 0; s < sequences; ++s) {
      Copy(one.Rows(0, 2), all.view().Rows(2 * s, 2), {});
      Copy(one.Rows(2, 1), all.view().Rows(2 * sequences + s, 1), {});
    }
    return all;
  };
  const auto summaries = [&](int32_t sequences) {
    layout.sequences = sequences;
    const Tensor q = ToGpu(rows("q", sequences));
    const Tensor k = ToGpu(rows("k", sequences));
    const Tensor v = ToGpu(rows("v", sequences));
    const Tensor out = Tensor::Empty(q.shape(), DType::kBF16, device());
    const Tensor lse = Tensor::Empty({q.rows(), 1}, DType::kF32, device());
    AttentionForward({.q = q,
                      .k = k,
                      .v = v,
                      .out = out,
                      .lse = lse,
                      .layout = layout,
                      .window = AttentionWindow::Ksa(1),
                      .allocator = &device()},
                     stream());
    return ToCpu(out).Rows(q.rows() - 1, 1);
  };
  const Tensor expected = summaries(1);
  ExpectSameBits(summaries(kSequences), expected, "the last summary");
}

}  // namespace
}  // namespace ksa::testing
