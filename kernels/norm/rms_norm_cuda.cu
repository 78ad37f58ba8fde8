#include <algorithm>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/column_sums.cuh"
#include "kernels/norm/rms_norm_backends.h"
#include "kernels/norm/rms_norm_device.cuh"
#include "kernels/norm/rms_norm_scratch.h"

namespace ksa::cuda {
namespace {

// Whether rows can be read 16 bytes at a time.
template <typename T>
bool Vectorisable(int64_t d, std::initializer_list<const void*> tensors) {
  return d % device::kVectorElements<T> == 0 &&
         std::all_of(tensors.begin(), tensors.end(), [](const void* data) { return device::IsAligned16(data); });
}

// Calls run.operator()<kVectors, kWarps>() with the smallest registers that hold a row of `d` elements; false: none
// does.
template <typename T, typename Run>
bool WithRowShape(int64_t d, const Run& run) {
  constexpr int64_t kPerWarp = 32 * device::kVectorElements<T>;
  const int64_t vectors = (d + kPerWarp - 1) / kPerWarp;
  if (vectors <= 1) {
    run.template operator()<1, 1>();
  } else if (vectors <= 2) {
    run.template operator()<2, 1>();
  } else if (vectors <= 4) {
    run.template operator()<1, 4>();
  } else if (vectors <= 8) {
    run.template operator()<2, 4>();
  } else if (vectors <= 16) {
    run.template operator()<4, 4>();
  } else if (vectors <= 32) {
    run.template operator()<8, 4>();
  } else {
    return false;
  }
  return true;
}

template <typename T>
void Forward(const RmsNormForwardArgs& args, const Stream& stream) {
  const int64_t n = args.x.rows();
  const int64_t d = args.x.cols();
  const bool two = !args.weight_summary.empty();
  const norm::Forward<T> p{.x = args.x.As<T>(),
                           .residual = args.residual.As<T>(),
                           .sum = args.residual.empty() ? nullptr : args.sum_out.As<T>(),
                           .weight = args.weight.As<T>(),
                           .weight_summary = two ? args.weight_summary.As<T>() : args.weight.As<T>(),
                           .y = args.y.As<T>(),
                           .rstd = args.rstd.As<float>(),
                           .n = n,
                           .d = d,
                           .residual_rows = args.residual.empty() ? 0 : args.residual.rows(),
                           .split = two ? args.split : n,
                           .eps = static_cast<float>(args.eps)};
  const auto vectors = [&]<int kVectors, int kWarps>() {
    constexpr int kRows = norm::kBlockWarps / kWarps;
    const LaunchShape shape = {.grid = dim3(static_cast<unsigned>((n + kRows - 1) / kRows)),
                               .block = dim3(32 * norm::kBlockWarps),
                               .early = true};
    Launch("RmsNormForward", stream, shape, norm::ForwardKernel<T, kVectors, kWarps>, p);
  };
  const bool wide = Vectorisable<T>(d, {p.x, p.residual, p.sum, p.weight, p.weight_summary, p.y});
  if (!wide || !WithRowShape<T>(d, vectors)) {
    const LaunchShape shape = {.grid = dim3(static_cast<unsigned>(n)), .block = dim3(norm::kAnyThreads), .early = true};
    Launch("RmsNormForward", stream, shape, norm::ForwardAnyKernel<T>, p);
  }
}

template <typename T>
void Backward(const RmsNormBackwardArgs& args, const Stream& stream) {
  const int64_t n = args.x.rows();
  const int64_t d = args.x.cols();
  const bool two = !args.weight_summary.empty();
  const bool wide = Vectorisable<T>(
      d, {args.dy.data, args.x.data, args.weight.data, args.weight_summary.data, args.dx_residual.data, args.dx.data});
  int rows_at_once = 1;
  const bool held =
      wide && WithRowShape<T>(d, [&]<int kVectors, int kWarps>() { rows_at_once = norm::kBlockWarps / kWarps; });
  const int64_t most_blocks = RmsNormBackwardBlocks(d * static_cast<int64_t>(sizeof(T)));
  const device::Segments segments(n, two ? args.split : n, most_blocks, rows_at_once);
  const Tensor partials = RmsNormBackwardPartials(args);
  const norm::Backward<T> p{.dy = args.dy.As<T>(),
                            .x = args.x.As<T>(),
                            .rstd = args.rstd.As<float>(),
                            .weight = args.weight.As<T>(),
                            .weight_summary = two ? args.weight_summary.As<T>() : args.weight.As<T>(),
                            .dx_residual = args.dx_residual.As<T>(),
                            .dx = args.dx.As<T>(),
                            .partials = partials.As<float>(),
                            .d = d,
                            .segments = segments};
  const auto blocks = dim3(static_cast<unsigned>(segments.blocks()));
  const auto vectors = [&]<int kVectors, int kWarps>() {
    const size_t shared = norm::BackwardSharedBytes<T, kVectors, kWarps>();
    const LaunchShape shape = {
        .grid = blocks, .block = dim3(32 * norm::kBlockWarps), .shared_bytes = shared, .early = true};
    Launch("RmsNormBackward", stream, shape, norm::BackwardKernel<T, kVectors, kWarps>, p);
  };
  if (held) {
    WithRowShape<T>(d, vectors);
  } else {
    const LaunchShape shape = {.grid = blocks, .block = dim3(norm::kAnyThreads), .early = true};
    Launch("RmsNormBackward", stream, shape, norm::BackwardAnyKernel<T>, p);
  }
  const device::ColumnSum text{p.partials, segments.first_blocks, args.dweight.As<float>(), args.accumulate};
  device::ColumnSum summary;
  if (two) {
    summary = {p.partials + segments.first_blocks * d,
               segments.second_blocks,
               args.dweight_summary.As<float>(),
               args.accumulate_summary};
  }
  device::ColumnSums("RmsNormBackward", text, summary, d, stream);
}

}  // namespace

void RmsNormForward(const RmsNormForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) { Forward<decltype(element)>(args, stream); });
}

void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) { Backward<decltype(element)>(args, stream); });
}

}  // namespace ksa::cuda
