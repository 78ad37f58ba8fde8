// Pooling on the GPU against the CPU's.
#include <array>
#include <cmath>
#include <vector>

#include <fmt/core.h>

#include "kernels/pool/chunk_pool.h"
#include "tests/gpu/layout_on_gpu.h"
#include "tests/support/context_layout.h"

namespace ksa::testing {
namespace {

struct Case {
  SummaryLayout layout;
  int64_t channels = 64;
  int matrices = 2;
  double shift = 0.0;  // of all gates
};

// All tensors of a forward and a backward call.
struct Call {
  SummaryLayout layout;
  Allocator* scratch = nullptr;
  Tensor gate, bias, dbias, dgate;
  std::array<Tensor, 2> x, y, dy, dx;

  void Run(bool accumulate, const Stream& stream) const {
    ChunkPoolForward({.gate = gate, .bias = bias, .x = {x[0], x[1]}, .y = {y[0], y[1]}, .layout = layout}, stream);
    ChunkPoolBackward({.gate = gate,
                       .bias = bias,
                       .x = {x[0], x[1]},
                       .dy = {dy[0], dy[1]},
                       .dgate = dgate,
                       .dx = {dx[0], dx[1]},
                       .dbias = dbias,
                       .accumulate = accumulate,
                       .layout = layout,
                       .allocator = scratch},
                      stream);
  }
};

class GpuPool : public GpuLayoutTest {
 protected:
  template <typename Map>
  static Call Mapped(const Call& from, Allocator& memory, const Map& map) {
    Call call{.layout = from.layout,
              .scratch = &memory,
              .gate = map(from.gate),
              .bias = map(from.bias),
              .dbias = map(from.dbias)};
    for (size_t i = 0; i < 2; ++i) {
      call.x[i] = map(from.x[i]);
      call.dy[i] = map(from.dy[i]);
    }
    MakeOutputs(call, memory);
    return call;
  }

  static void MakeOutputs(Call& call, Allocator& memory) {
    const DType dtype = call.gate.dtype();
    call.dgate = Tensor::Empty(call.gate.shape(), dtype, memory);
    for (size_t i = 0; i < 2 && !call.x[i].empty(); ++i) {
      call.y[i] = Tensor::Empty(call.dy[i].shape(), dtype, memory);
      call.dx[i] = Tensor::Empty(call.x[i].shape(), dtype, memory);
    }
  }

  void Check(const Case& c) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const bool accumulate : {true, false}) {
        CheckOne(c, dtype, accumulate);
      }
    }
  }

  void CheckOne(const Case& c, DType dtype, bool accumulate) {
    const SummaryLayout& layout = c.layout;
    SCOPED_TRACE(fmt::format("{} x {} tokens, chunks of {}, {} live, {} channels, {} matrices, {}",
                             layout.sequences,
                             layout.text_tokens,
                             layout.chunk_size,
                             layout.live_chunks,
                             c.channels,
                             c.matrices,
                             NameOf(dtype)));
    const int64_t rows = PooledRows(layout);
    Call plain{.layout = layout,
               .gate = Normal("gate", {rows, c.channels}, dtype, host()),
               .bias = Normal("bias", {layout.chunk_size, c.channels}, dtype, host()),
               .dbias = Normal("dbias", {layout.chunk_size, c.channels}, AccumulationType(dtype), host())};
    for (int64_t i = 0; i < plain.gate.size() && c.shift != 0.0; ++i) {
      SetElement(plain.gate, i, ElementAt(plain.gate, i) + c.shift);
    }
    for (int i = 0; i < c.matrices; ++i) {
      // The first has rows behind those of the last entry, which reach nothing.
      const auto at = static_cast<size_t>(i);
      plain.x[at] = Normal(i == 0 ? "k" : "v", {i == 0 ? layout.text_rows() : rows, c.channels}, dtype, host());
      plain.dy[at] = Normal(i == 0 ? "dk" : "dv", {layout.summary_rows(), c.channels}, dtype, host());
    }
    MakeOutputs(plain, host());
    const Call exact =
        Mapped(plain, host(), [&](const Tensor& x) { return x.empty() ? Tensor() : Cast(x, DType::kF64); });
    const auto on_gpu = [&] {
      Call call = Mapped(plain, device(), [&](const Tensor& x) { return ToGpu(x); });
      call.layout = OnGpu(layout);
      call.Run(accumulate, stream());
      return call;
    };
    const Call gpu = on_gpu();
    const Call again = on_gpu();
    plain.Run(accumulate, {});
    exact.Run(accumulate, {});
    // Both sides take exponentials within two units, and divide.
    constexpr double kUnits = 4.0;
    for (size_t i = 0; i < static_cast<size_t>(c.matrices); ++i) {
      ExpectAsAccurate(ToCpu(gpu.y[i]), plain.y[i], exact.y[i], "y", kUnits);
      ExpectAsAccurate(ToCpu(gpu.dx[i]), plain.dx[i], exact.dx[i], "dx", kUnits);
      ExpectSameBits(ToCpu(gpu.y[i]), ToCpu(again.y[i]), "a second run's y");
      ExpectSameBits(ToCpu(gpu.dx[i]), ToCpu(again.dx[i]), "a second run's dx");
    }
    ExpectAsAccurate(ToCpu(gpu.dgate), plain.dgate, exact.dgate, "dgate", kUnits);
    ExpectSameBits(ToCpu(gpu.dgate), ToCpu(again.dgate), "a second run's dgate");
    // A sum's roundings follow the size of its parts, which for n random terms is the root of n.
    const double units = kUnits + std::sqrt(static_cast<double>(layout.summary_rows()));
    ExpectAsAccurate(ToCpu(gpu.dbias), plain.dbias, exact.dbias, "dbias", units);
    ExpectSameBits(ToCpu(gpu.dbias), ToCpu(again.dbias), "a second run's dbias");
  }
};

SummaryLayout Layout(int32_t sequences, int32_t tokens, int32_t k, int32_t live) {
  return {.sequences = sequences, .text_tokens = tokens, .chunk_size = k, .summary_tokens = 1, .live_chunks = live};
}

TEST_F(GpuPool, AsAccurateAsTheCpu) {
  for (const int32_t k : {1, 3, 8, 9, 64}) {
    for (const int64_t channels : {1, 33, 64, 264}) {
      Check({Layout(2, 5 * k + 1, k, 3), channels});
    }
  }
  Check({Layout(1, 300, 128, 2), 72});
  Check({Layout(1, 4096, 8, 500), 1088});  // more chunks than blocks that share them
  Check({Layout(1, 4096, 8, 500), 130, 1});
  Check({Layout(1, 41, 8, 5), 64, 1});
  Check({Layout(2, 41, 8, 0), 64, 2});  // no entry at all
}

TEST_F(GpuPool, DocumentsAndParts) {
  const std::vector<int32_t> first_chunk = {0, 0, 2, 3, 3, 5};
  const std::vector<int32_t> tokens = {4, 1, 4, 4, 3, 0};
  SummaryLayout documents = Layout(1, 24, 4, 6);
  documents.document_first_chunk = first_chunk.data();
  documents.chunk_tokens = tokens.data();
  Check({documents, 65});
  Check({documents, 64, 1});
  const SummaryLayout part = RankLayout(Layout(1, 47, 5, 7), 2, 0);  // chunks 0, 1 and 7, 8, of which 3 have entries
  Check({part, 4});
  Check({part, 128});
}

// Logits of 5000: only their differences count, and the bias is not rounded away beside them.
TEST_F(GpuPool, LargeLogits) {
  CheckOne({Layout(1, 40, 8, 5), 64, 2, 5000.0}, DType::kF32, false);
  CheckOne({Layout(1, 90, 16, 5), 6, 2, 5000.0}, DType::kF32, false);
}

}  // namespace
}  // namespace ksa::testing
