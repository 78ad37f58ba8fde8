// The convolution on the GPU against the CPU's: whole sequences with documents, and parts with their halos.
#include "kernels/short_conv/short_conv.h"

#include <cmath>
#include <vector>

#include <fmt/core.h>

#include "kernels/short_conv/conv_rows.h"
#include "tests/gpu/layout_on_gpu.h"
#include "tests/kernels/attention/attention_case.h"
#include "tests/support/context_layout.h"

namespace ksa::testing {
namespace {

struct Case {
  int64_t channels = 64;
  int64_t taps = 4;
  bool text_alone = false;  // x has no summary rows
  bool accumulate = true;
};

// All tensors of a forward and a backward call.
struct Call {
  SummaryLayout layout;
  bool accumulate = true;
  ConvForm form = ConvForm::kResidual;
  Allocator* scratch = nullptr;
  Tensor x, halo, weight, dy, dweight;
  Tensor y, dx, dhalo;

  void Run(const Stream& stream) const {
    ShortConvForward({.x = x, .halo = halo, .weight = weight, .y = y, .layout = layout, .form = form}, stream);
    ShortConvBackward({.dy = dy,
                       .x = x,
                       .halo = halo,
                       .weight = weight,
                       .dx = dx,
                       .dhalo = dhalo,
                       .dweight = dweight,
                       .accumulate = accumulate,
                       .layout = layout,
                       .form = form,
                       .allocator = scratch},
                      stream);
  }
};

class GpuShortConv : public GpuLayoutTest {
 protected:
  template <typename Map>
  Call Mapped(const Call& from, Allocator& memory, const Map& map) {
    Call call{.layout = from.layout,
              .accumulate = from.accumulate,
              .form = from.form,
              .scratch = &memory,
              .x = map(from.x),
              .halo = map(from.halo),
              .weight = map(from.weight),
              .dy = map(from.dy),
              .dweight = map(from.dweight)};
    MakeOutputs(call, memory);
    return call;
  }

  static void MakeOutputs(Call& call, Allocator& memory) {
    call.y = Tensor::Empty(call.x.shape(), call.x.dtype(), memory);
    call.dx = Tensor::Empty(call.x.shape(), call.x.dtype(), memory);
    call.dhalo = call.halo.empty() ? Tensor() : Tensor::Empty(call.halo.shape(), call.x.dtype(), memory);
  }

  void Check(const Case& c, const SummaryLayout& layout) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const ConvForm form : {ConvForm::kResidual, ConvForm::kSilu}) {
        CheckOne(c, layout, dtype, form);
      }
    }
  }

  void CheckOne(const Case& c, const SummaryLayout& layout, DType dtype, ConvForm form) {
    SCOPED_TRACE(fmt::format("{} x {} tokens of {}, chunks of {}, documents {}, {} channels, {} taps, form {}, {}",
                             layout.sequences,
                             layout.text_tokens,
                             layout.total(),
                             layout.chunk_size,
                             layout.chunk_tokens != nullptr,
                             c.channels,
                             c.taps,
                             static_cast<int>(form),
                             NameOf(dtype)));
    const Shape shape = {c.text_alone ? layout.text_rows() : layout.rows(), c.channels};
    const int64_t halo_rows = ConvRows{layout, static_cast<int32_t>(c.taps) - 1}.halo_rows();
    Call plain{.layout = layout,
               .accumulate = c.accumulate,
               .form = form,
               .x = Normal("x", shape, dtype, host()),
               .halo = halo_rows == 0 ? Tensor() : Normal("halo", {halo_rows, c.channels}, dtype, host()),
               .weight = Normal("weight", {c.channels, 1, c.taps}, dtype, host()),
               .dy = Normal("dy", shape, dtype, host()),
               .dweight = Normal("dweight", {c.channels, 1, c.taps}, AccumulationType(dtype), host())};
    MakeOutputs(plain, host());
    const auto widen = [&](const Tensor& x) { return x.empty() ? Tensor() : Cast(x, DType::kF64); };
    const Call exact = Mapped(plain, host(), widen);
    const auto on_gpu = [&] {
      Call call = Mapped(plain, device(), [&](const Tensor& x) { return ToGpu(x); });
      call.layout = OnGpu(layout);
      call.Run(stream());
      return call;
    };
    const Call gpu = on_gpu();
    const Call again = on_gpu();
    plain.Run({});
    exact.Run({});
    // Of SiLU both sides take an exponential within two units, and divide.
    const double roundings = form == ConvForm::kSilu ? 4.0 : 1.0;
    ExpectAsAccurate(ToCpu(gpu.y), plain.y, exact.y, "y", roundings);
    ExpectAsAccurate(ToCpu(gpu.dx), plain.dx, exact.dx, "dx", roundings);
    // A sum's roundings follow the size of its parts, which for n random terms is the root of n.
    const double units = 1.0 + roundings + std::sqrt(static_cast<double>(plain.x.rows()));
    ExpectAsAccurate(ToCpu(gpu.dweight), plain.dweight, exact.dweight, "dweight", units);
    ExpectSameBits(ToCpu(gpu.y), ToCpu(again.y), "a second run's y");
    ExpectSameBits(ToCpu(gpu.dx), ToCpu(again.dx), "a second run's dx");
    ExpectSameBits(ToCpu(gpu.dweight), ToCpu(again.dweight), "a second run's dweight");
    if (halo_rows > 0) {
      ExpectAsAccurate(ToCpu(gpu.dhalo), plain.dhalo, exact.dhalo, "dhalo", roundings);
      ExpectSameBits(ToCpu(gpu.dhalo), ToCpu(again.dhalo), "a second run's dhalo");
    }
  }
};

SummaryLayout Layout(int32_t sequences, int32_t tokens, int32_t chunk_size, int32_t summary_tokens = 0) {
  SummaryLayout layout = {
      .sequences = sequences, .text_tokens = tokens, .chunk_size = chunk_size, .summary_tokens = summary_tokens};
  layout.live_chunks = summary_tokens > 0 ? layout.chunks() / 2 : 0;
  return layout;
}

// Documents of one token, longer ones, empty chunks.
AttentionCase Packed(const SummaryLayout& layout) {
  AttentionCase c;
  c.layout = layout;
  c.Pack([](int32_t i) { return std::vector<int32_t>{5, 1, 0, 23, 2, 40}[static_cast<size_t>(i % 6)]; });
  return c;
}

TEST_F(GpuShortConv, WholeSequences) {
  for (const int64_t taps : {1, 2, 3, 4, 5, 16}) {
    Check({.channels = 72, .taps = taps}, Layout(2, 113, 4, 2));
  }
  for (const int64_t channels : {1, 7, 8, 256, 1096, 2048}) {
    Check({.channels = channels, .text_alone = true, .accumulate = false}, Layout(1, 301, 8, 1));
  }
  Check({.channels = 16, .taps = 16}, Layout(3, 3, 8));
  Check({.channels = 16, .taps = 2}, Layout(1, 1, 1));
  Check({.channels = 264}, Layout(1, 9000, 8));
}

TEST_F(GpuShortConv, TapsRestartAtDocuments) {
  for (const int64_t taps : {2, 4, 9, 16}) {
    const AttentionCase packed = Packed(Layout(2, 300, 4, 1));
    Check({.channels = 64, .taps = taps}, packed.Layout());
    Check({.channels = 33, .taps = taps, .text_alone = true}, packed.Layout());
  }
}

TEST_F(GpuShortConv, PartsReadTheirHalos) {
  for (const int64_t taps : {4, 9, 16}) {
    for (const int32_t ranks : {2, 3}) {
      for (int32_t rank = 0; rank < ranks; ++rank) {
        const AttentionCase packed = Packed(Layout(2, 113, 4));
        Check({.channels = 40, .taps = taps}, RankLayout(Layout(1, 113, 4), ranks, rank));
        Check({.channels = 13, .taps = taps}, RankLayout(packed.Layout(), ranks, rank));
      }
    }
  }
}

}  // namespace
}  // namespace ksa::testing
