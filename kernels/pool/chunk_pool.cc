#include "kernels/pool/chunk_pool.h"

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/pool/chunk_pool_backends.h"
#include "kernels/pool/chunk_pool_scratch.h"

namespace ksa {
namespace {

void CheckRows(
    const ArgumentCheck& check, const char* name, const TensorView& x, const TensorView& gate, int64_t rows) {
  check.Rank(name, x, 2);
  check.Tensor(name, x, gate.dtype, gate.shape.WithRows(x.rows()));
  KSA_CHECK(x.rows() >= rows, "chunk pool: {} has {} rows of text; entries stand for {}", name, x.rows(), rows);
}

// What forward and backward have in common.
template <typename Args>
void CheckCall(const ArgumentCheck& check, const Args& args) {
  const SummaryLayout& layout = args.layout;
  check.Floating("gate", args.gate);
  check.Rank("gate", args.gate, 2);
  KSA_CHECK(layout.summary_tokens == 1 && !layout.gathered_summaries && layout.live_chunks <= layout.chunks(),
            "chunk pool: the layout has {} entries a chunk and {} chunks with entries of {}",
            layout.summary_tokens,
            layout.live_chunks,
            layout.chunks());
  const int64_t rows = PooledRows(layout);
  CheckRows(check, "gate", args.gate, args.gate, rows);
  check.Tensor("bias", args.bias, args.gate.dtype, {layout.chunk_size, args.gate.cols()});
  CheckRows(check, "x", args.x[0], args.gate, rows);
  if (!args.x[1].empty()) {
    CheckRows(check, "x", args.x[1], args.gate, rows);
  }
}

}  // namespace

void ChunkPoolForward(const ChunkPoolForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("ChunkPoolForward", stream);
  CheckCall(check, args);
  for (size_t i = 0; i < args.x.size() && !args.x[i].empty(); ++i) {
    check.Tensor("y", args.y[i], args.gate.dtype, {args.layout.summary_rows(), args.gate.cols()});
  }
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.gate, args.x[0], args.x[1], args.y[0], args.y[1]}); };
  RunOp("ChunkPoolForward", stream, {args.gate.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("ChunkPoolForward", stream, cuda::ChunkPoolForward(args, stream));
      return;
    }
    DispatchFloating(args.gate.dtype, [&](auto element) { cpu::ChunkPoolForward<decltype(element)>(args, stream); });
  });
}

void ChunkPoolBackward(const ChunkPoolBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("ChunkPoolBackward", stream);
  CheckCall(check, args);
  for (size_t i = 0; i < args.x.size() && !args.x[i].empty(); ++i) {
    check.Tensor("dy", args.dy[i], args.gate.dtype, {args.layout.summary_rows(), args.gate.cols()});
    check.Tensor("dx", args.dx[i], args.gate.dtype, args.x[i].shape);
  }
  check.Tensor("dgate", args.dgate, args.gate.dtype, args.gate.shape);
  check.Tensor("dbias", args.dbias, AccumulationType(args.gate.dtype), args.bias.shape);
  const auto work = [&] {
    return MovedBy(WorkKind::kRows, {args.gate, args.x[0], args.x[1], args.dx[0], args.dx[1], args.dgate});
  };
  RunOp("ChunkPoolBackward", stream, {args.gate.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      if (stream.dry) {
        static_cast<void>(ChunkPoolBackwardPartials(args));
      }
      KSA_CUDA_OR_FAIL("ChunkPoolBackward", stream, cuda::ChunkPoolBackward(args, stream));
      return;
    }
    DispatchFloating(args.gate.dtype, [&](auto element) { cpu::ChunkPoolBackward<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
