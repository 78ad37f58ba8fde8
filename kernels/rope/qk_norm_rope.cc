#include "kernels/rope/qk_norm_rope.h"

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/rope/qk_norm_rope_backends.h"
#include "kernels/rope/qk_norm_rope_scratch.h"

namespace ksa {
namespace {

// What forward and backward have in common.
struct Call {
  const char* kernel;
  const TensorView& x;
  const TensorView& weight;
  const TensorView& weight_summary;
  const TensorView& table;
  const TensorView& rstd;
  const SummaryLayout& layout;
  int64_t first_row;
  int64_t split;
};

// Every position of the rows has an entry in the table.
void CheckPositions(const Call& call) {
  const int64_t positions = call.table.rows();
  if (positions >= call.layout.total()) {
    return;  // no position reaches the sequence's length
  }
  const bool documents = call.layout.document_first_chunk != nullptr || call.layout.chunk_tokens != nullptr;
  if (documents && !call.x.device.IsCpu()) {
    Fail(ExitCode::kInternal,
         "{}: the table ends at {}, a sequence has {} tokens; with documents on a GPU the table must hold them all",
         call.kernel,
         positions,
         call.layout.total());
  }
  for (int64_t r = 0; r < call.x.rows(); ++r) {
    const int32_t position = call.layout.Position(r + call.first_row);
    if (position >= positions) {
      Fail(ExitCode::kInternal,
           "{}: row {} stands at position {}, the table ends at {}; fill a longer table",
           call.kernel,
           r + call.first_row,
           position,
           positions);
    }
  }
}

void CheckCall(const ArgumentCheck& check, const Call& call) {
  const DType dtype = call.x.dtype;
  check.Floating("x", call.x);
  check.Rank("x", call.x, 3);
  const int64_t n = call.x.rows();
  const int64_t h = call.x.shape[1];
  const int64_t e = call.x.shape[2];
  check.Within("head dim", e, 2, cpu::kMaxHeadDim);
  if (e % 2 != 0) {
    Fail(ExitCode::kInternal, "{}: the head dim is {}, it should be even", call.kernel, e);
  }
  check.Tensor("x", call.x, dtype, {n, h, e});
  check.Rank("table", call.table, 3);
  check.Tensor("table", call.table, AccumulationType(dtype), {call.table.rows(), e / 2, 2});
  check.Optional("weight", call.weight, dtype, {e});
  check.Optional("weight_summary", call.weight_summary, dtype, {e});
  if (!call.weight.empty()) {
    check.Tensor("rstd", call.rstd, AccumulationType(dtype), {n, h});
  } else if (!call.weight_summary.empty()) {
    Fail(ExitCode::kInternal, "{}: weight_summary is given without weight", call.kernel);
  }
  if (!call.weight_summary.empty()) {
    check.Within("split", call.split, 0, n);
  }
  check.Within("first_row", call.first_row, 0, call.layout.rows() - n);
  CheckPositions(call);
}

}  // namespace

void FillRopeTable(const TensorView& table, double theta, const Stream& stream) {
  const ArgumentCheck check("FillRopeTable", stream);
  check.Rank("table", table, 3);
  check.Floating("table", table);
  check.Tensor("table", table, table.dtype, {table.rows(), table.shape[1], 2});
  if (!(theta > 0.0)) {
    Fail(ExitCode::kInternal, "FillRopeTable: theta is {}, it should be positive", theta);
  }
  const auto work = [&] { return MovedBy(WorkKind::kRows, {table}); };
  RunOp("FillRopeTable", stream, {table.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("FillRopeTable", stream, cuda::FillRopeTable(table, theta, stream));
      return;
    }
    DispatchAccumulator(table.dtype,
                        [&](auto element) { cpu::FillRopeTable<decltype(element)>(table, theta, stream); });
  });
}

void QkNormRopeForward(const QkNormRopeForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("QkNormRopeForward", stream);
  CheckCall(check,
            {"QkNormRopeForward",
             args.x,
             args.weight,
             args.weight_summary,
             args.table,
             args.rstd,
             args.layout,
             args.first_row,
             args.split});
  check.Tensor("y", args.y, args.x.dtype, args.x.shape);
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.x, args.y, args.rstd}); };
  RunOp("QkNormRopeForward", stream, {args.x.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("QkNormRopeForward", stream, cuda::QkNormRopeForward(args, stream));
      return;
    }
    DispatchFloating(args.x.dtype, [&](auto element) { cpu::QkNormRopeForward<decltype(element)>(args, stream); });
  });
}

void QkNormRopeBackward(const QkNormRopeBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("QkNormRopeBackward", stream);
  const TensorView& x = args.weight.empty() ? args.dy : args.x;
  CheckCall(check,
            {"QkNormRopeBackward",
             x,
             args.weight,
             args.weight_summary,
             args.table,
             args.rstd,
             args.layout,
             args.first_row,
             args.split});
  check.Tensor("dy", args.dy, x.dtype, x.shape);
  check.Tensor("dx", args.dx, x.dtype, x.shape);
  const Shape weight_shape = {x.shape[2]};
  check.Optional("dweight", args.dweight, AccumulationType(x.dtype), weight_shape);
  check.Optional("dweight_summary", args.dweight_summary, AccumulationType(x.dtype), weight_shape);
  const auto work = [&] {
    return MovedBy(WorkKind::kRows, {args.dy, args.weight.empty() ? TensorView() : args.x, args.rstd, args.dx});
  };
  RunOp("QkNormRopeBackward", stream, {args.dy.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      if (stream.dry) {
        static_cast<void>(QkNormRopeBackwardPartials(args));
      }
      KSA_CUDA_OR_FAIL("QkNormRopeBackward", stream, cuda::QkNormRopeBackward(args, stream));
      return;
    }
    DispatchFloating(x.dtype, [&](auto element) { cpu::QkNormRopeBackward<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
