#include <algorithm>
#include <initializer_list>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/column_sums.cuh"
#include "kernels/rope/qk_norm_rope_backends.h"
#include "kernels/rope/qk_norm_rope_device.cuh"
#include "kernels/rope/qk_norm_rope_scratch.h"

namespace ksa::cuda {
namespace {

constexpr int kTableThreads = 256;

// One thread a position and frequency.
__global__ void __launch_bounds__(kTableThreads)
    FillRopeTableKernel(float* table, int64_t size, int64_t half, double theta) {
  const int64_t at = int64_t{blockIdx.x} * kTableThreads + threadIdx.x;
  if (at < size) {
    const double frequency = pow(theta, -static_cast<double>(at % half) / static_cast<double>(half));
    const double angle = static_cast<double>(at / half) * frequency;
    table[2 * at] = static_cast<float>(cos(angle));
    table[2 * at + 1] = static_cast<float>(sin(angle));
  }
}

// Whether a power of two of lanes holds a head, one vector of each half a lane.
template <typename T>
bool Vectorisable(int64_t e, std::initializer_list<const void*> tensors) {
  const int64_t lanes = e / 2 / device::kVectorElements<T>;
  const bool whole = lanes * 2 * device::kVectorElements<T> == e;
  return whole && lanes >= 1 && lanes <= 32 && (lanes & (lanes - 1)) == 0 &&
         std::all_of(tensors.begin(), tensors.end(), [](const void* data) { return device::IsAligned16(data); });
}

template <typename T>
void LaunchForward(const char* op, const rope::Forward<T>& p, const Stream& stream) {
  if (!Vectorisable<T>(p.e, {p.x, p.weight, p.weight_summary, p.table, p.y})) {
    const LaunchShape shape = {.grid = dim3(static_cast<unsigned>(p.n)), .block = dim3(32), .early = true};
    Launch(op, stream, shape, rope::ForwardAnyKernel<T>, p);
    return;
  }
  const auto blocks = static_cast<unsigned>((p.n + rope::kForwardWarps - 1) / rope::kForwardWarps);
  const LaunchShape shape = {.grid = dim3(blocks), .block = dim3(32 * rope::kForwardWarps), .early = true};
  if (p.weight != nullptr) {
    Launch(op, stream, shape, rope::ForwardKernel<T, true>, p);
  } else {
    Launch(op, stream, shape, rope::ForwardKernel<T, false>, p);
  }
}

template <typename T>
void Forward(const QkNormRopeForwardArgs& args, const Stream& stream) {
  const bool norm = !args.weight.empty();
  const bool two = !args.weight_summary.empty();
  const int64_t n = args.x.rows();
  const rope::Forward<T> p{.x = args.x.As<T>(),
                           .weight = args.weight.As<T>(),
                           .weight_summary = two ? args.weight_summary.As<T>() : args.weight.As<T>(),
                           .table = args.table.As<float>(),
                           .y = args.y.As<T>(),
                           .rstd = norm ? args.rstd.As<float>() : nullptr,
                           .layout = args.layout,
                           .n = n,
                           .first_row = args.first_row,
                           .split = two ? args.split : n,
                           .h = static_cast<int>(args.x.shape[1]),
                           .e = static_cast<int>(args.x.shape[2]),
                           .eps = static_cast<float>(args.eps),
                           .direction = 1.0F};
  LaunchForward("QkNormRopeForward", p, stream);
}

// Without a norm: the rotation is undone by the rotation the other way.
template <typename T>
void TurnBack(const QkNormRopeBackwardArgs& args, const Stream& stream) {
  const int64_t n = args.dy.rows();
  const rope::Forward<T> p{.x = args.dy.As<T>(),
                           .weight = nullptr,
                           .weight_summary = nullptr,
                           .table = args.table.As<float>(),
                           .y = args.dx.As<T>(),
                           .rstd = nullptr,
                           .layout = args.layout,
                           .n = n,
                           .first_row = args.first_row,
                           .split = n,
                           .h = static_cast<int>(args.dy.shape[1]),
                           .e = static_cast<int>(args.dy.shape[2]),
                           .eps = 0.0F,
                           .direction = -1.0F};
  LaunchForward("QkNormRopeBackward", p, stream);
}

template <typename T>
void Backward(const QkNormRopeBackwardArgs& args, const Stream& stream) {
  const bool two = !args.weight_summary.empty();
  const int64_t n = args.dy.rows();
  const int64_t e = args.dy.shape[2];
  const bool wide = Vectorisable<T>(
      e, {args.dy.data, args.x.data, args.weight.data, args.weight_summary.data, args.table.data, args.dx.data});
  const device::Segments segments(n, two ? args.split : n, kQkNormBackwardBlocks, rope::kBackwardWarps);
  const Tensor partials = QkNormRopeBackwardPartials(args);
  const rope::Backward<T> p{.dy = args.dy.As<T>(),
                            .x = args.x.As<T>(),
                            .rstd = args.rstd.As<float>(),
                            .weight = args.weight.As<T>(),
                            .weight_summary = two ? args.weight_summary.As<T>() : args.weight.As<T>(),
                            .table = args.table.As<float>(),
                            .dx = args.dx.As<T>(),
                            .partials = partials.As<float>(),
                            .layout = args.layout,
                            .segments = segments,
                            .first_row = args.first_row,
                            .h = static_cast<int>(args.dy.shape[1]),
                            .e = static_cast<int>(e)};
  const dim3 blocks(static_cast<unsigned>(segments.blocks()));
  if (wide) {
    const LaunchShape shape = {
        .grid = blocks, .block = dim3(32 * rope::kBackwardWarps), .shared_bytes = rope::kPipeBytes, .early = true};
    Launch("QkNormRopeBackward", stream, shape, rope::BackwardKernel<T>, p);
  } else {
    const LaunchShape shape = {.grid = blocks, .block = dim3(32), .early = true};
    Launch("QkNormRopeBackward", stream, shape, rope::BackwardAnyKernel<T>, p);
  }
  const device::ColumnSum text{p.partials, segments.first_blocks, args.dweight.As<float>(), args.accumulate};
  device::ColumnSum summary;
  if (two) {
    summary = {p.partials + segments.first_blocks * e,
               segments.second_blocks,
               args.dweight_summary.As<float>(),
               args.accumulate_summary};
  }
  device::ColumnSums("QkNormRopeBackward", text, summary, e, stream);
}

}  // namespace

void FillRopeTable(const TensorView& table, double theta, const Stream& stream) {
  if (table.dtype != DType::kF32) {
    Fail(ExitCode::kInternal, "FillRopeTable: on a GPU the table is fp32, this one is {}", NameOf(table.dtype));
  }
  const int64_t size = table.size() / 2;
  const auto blocks = static_cast<unsigned>((size + kTableThreads - 1) / kTableThreads);
  const LaunchShape shape = {dim3(blocks), dim3(kTableThreads)};
  Launch("FillRopeTable", stream, shape, FillRopeTableKernel, table.As<float>(), size, table.shape[1], theta);
}

void QkNormRopeForward(const QkNormRopeForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) { Forward<decltype(element)>(args, stream); });
}

void QkNormRopeBackward(const QkNormRopeBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.dy.dtype, [&](auto element) {
    if (args.weight.empty()) {
      TurnBack<decltype(element)>(args, stream);
    } else {
      Backward<decltype(element)>(args, stream);
    }
  });
}

}  // namespace ksa::cuda
