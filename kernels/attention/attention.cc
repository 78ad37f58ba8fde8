#include "kernels/attention/attention.h"

#include "kernels/attention/attention_cpu.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"
#include "kernels/core/parallel.h"

namespace ksa {
namespace {

void CheckLayout(const SummaryLayout& layout, const AttentionWindow& window, bool with_summary_keys) {
  KSA_CHECK(layout.sequences >= 0 && layout.text_tokens >= 0 && layout.chunk_size >= 1 && layout.summary_tokens >= 0 &&
                layout.live_chunks >= 0 && layout.live_chunks <= layout.chunks(),
            "attention: no layout has {} sequences of {} tokens, chunks of {} with {} summaries, {} live chunks",
            layout.sequences,
            layout.text_tokens,
            layout.chunk_size,
            layout.summary_tokens,
            layout.live_chunks);
  KSA_CHECK(window.chunks >= 0 && window.tokens >= 1,
            "attention: a window of {} chunks and {} tokens; expected at least 0 and 1",
            window.chunks,
            window.tokens);
  if (window.summaries && layout.summary_tokens > 0) {
    const int32_t live = LiveChunks(layout.chunks(), window.chunks);
    KSA_CHECK(layout.live_chunks >= live,
              "attention: text sees the summaries of {} chunks but only {} are live; live_chunks must come from the "
              "smallest window of the model",
              live,
              layout.live_chunks);
    KSA_CHECK(live == 0 || with_summary_keys, "attention: text sees summaries but k and v hold text rows only");
  }
}

template <typename Args>
void CheckShared(const ArgumentCheck& check, const Args& args) {
  const DType dtype = args.q.dtype;
  check.Floating("q", args.q);
  check.Rank("q", args.q, 3);
  check.Rank("k", args.k, 3);
  const int64_t heads = args.q.shape[1];
  const int64_t groups = args.k.shape[1];
  KSA_CHECK(
      heads > 0 && groups > 0 && heads % groups == 0 && args.q.shape[2] > 0,
      "attention: query heads {} cannot share key/value heads {}; expected [rows, h, e] and [rows, g, e] with h a "
      "multiple of g",
      args.q.shape.ToString(),
      args.k.shape.ToString());
  const int64_t text = args.layout.text_rows();
  const int64_t rows = args.layout.rows();
  for (const int64_t n : {args.q.rows(), args.k.rows()}) {
    KSA_CHECK(n == rows || n == text, "attention: {} rows; the layout has {} rows, {} of text", n, rows, text);
  }
  KSA_CHECK(args.q.rows() <= args.k.rows(), "attention: q holds summary rows but k and v hold text rows only");
  CheckLayout(args.layout, args.window, args.k.rows() == rows);
  check.Tensor("q", args.q, dtype, args.q.shape);
  check.Tensor("k", args.k, dtype, {args.k.rows(), groups, args.q.shape[2]});
  check.Tensor("v", args.v, dtype, args.k.shape);
  check.Tensor("out", args.out, dtype, args.q.shape);
  check.Tensor("lse", args.lse, AccumulationType(dtype), {args.q.rows(), heads});
  KSA_CHECK(args.allocator == nullptr || args.allocator->device() == args.q.device,
            "attention: the scratch allocator is of another device than q");
}

template <typename Args>
void CheckOnGpu(const Args& args) {
  KSA_CHECK(args.allocator != nullptr, "attention on a GPU takes its scratch from an allocator; none was given");
}

template <typename Args>
void CheckOnCpu(const Args& args) {
  KSA_CHECK(args.path == AttentionPath::kAuto, "attention on the CPU has one implementation; its path is kAuto");
}

}  // namespace

bool AttentionPathIsBuilt(AttentionPath path) {
#ifdef KSA_HAVE_CUDA
  constexpr bool kCuda = true;
#else
  constexpr bool kCuda = false;
#endif
#ifdef KSA_HAVE_CUDNN
  constexpr bool kCudnn = true;
#else
  constexpr bool kCudnn = false;
#endif
  return path == AttentionPath::kAuto || (path == AttentionPath::kCudnn ? kCudnn : kCuda);
}

void AttentionForward(const AttentionForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("AttentionForward", stream);
  CheckShared(check, args);
  RunOp("AttentionForward", stream, {args.q.shape, args.k.shape}, [&] {
    if (!stream.device.IsCpu()) {
      CheckOnGpu(args);
      KSA_CUDA_OR_FAIL("AttentionForward", stream, cuda_attention::Forward(args, *args.allocator, stream));
      return;
    }
    CheckOnCpu(args);
    PoolAllocator own;
    Allocator& scratch = args.allocator == nullptr ? own : *args.allocator;
    DispatchFloating(args.q.dtype, [&](auto element) {
      cpu_attention::Forward<decltype(element)>(args, ThreadsFor(stream, args.q.size()), scratch);
    });
  });
}

void AttentionBackward(const AttentionBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("AttentionBackward", stream);
  CheckShared(check, args);
  check.Tensor("dout", args.dout, args.q.dtype, args.q.shape);
  check.Tensor("dq", args.dq, args.q.dtype, args.q.shape);
  check.Tensor("dk", args.dk, args.q.dtype, args.k.shape);
  check.Tensor("dv", args.dv, args.q.dtype, args.k.shape);
  RunOp("AttentionBackward", stream, {args.q.shape, args.k.shape}, [&] {
    if (!stream.device.IsCpu()) {
      CheckOnGpu(args);
      KSA_CUDA_OR_FAIL("AttentionBackward", stream, cuda_attention::Backward(args, *args.allocator, stream));
      return;
    }
    CheckOnCpu(args);
    PoolAllocator own;
    Allocator& scratch = args.allocator == nullptr ? own : *args.allocator;
    DispatchFloating(args.q.dtype, [&](auto element) {
      cpu_attention::Backward<decltype(element)>(args, ThreadsFor(stream, args.q.size()), scratch);
    });
  });
}

}  // namespace ksa
