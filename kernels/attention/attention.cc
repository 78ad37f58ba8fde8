#include "kernels/attention/attention.h"

#include <string_view>

#include "kernels/attention/attention_cpu.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

void CheckView(std::string_view name, const TensorView& view, DType dtype, const Shape& shape, Device device) {
  KSA_CHECK(!view.empty() || shape.size() == 0, "attention: {} is missing", name);
  KSA_CHECK(view.dtype == dtype, "attention: {} is {}, expected {}", name, NameOf(view.dtype), NameOf(dtype));
  KSA_CHECK(
      view.shape == shape, "attention: {} has shape {}, expected {}", name, view.shape.ToString(), shape.ToString());
  KSA_CHECK(view.device == device, "attention: {} lies on another device than the stream", name);
}

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
void Check(const Args& args, const Stream& stream) {
  const TensorView& q = args.q;
  const TensorView& k = args.k;
  KSA_CHECK(q.shape.rank() == 3 && k.shape.rank() == 3,
            "attention: q and k must be [rows, heads, head dim], got {} and {}",
            q.shape.ToString(),
            k.shape.ToString());
  KSA_CHECK(q.shape[1] > 0 && k.shape[1] > 0 && q.shape[1] % k.shape[1] == 0,
            "attention: {} query heads cannot share {} key/value heads",
            q.shape[1],
            k.shape[1]);
  KSA_CHECK(q.shape[2] > 0, "attention: head dim 0");
  const int64_t text = args.layout.text_rows();
  const int64_t rows = args.layout.rows();
  for (const int64_t n : {q.rows(), k.rows()}) {
    KSA_CHECK(n == rows || n == text, "attention: {} rows; the layout has {} rows, {} of text", n, rows, text);
  }
  KSA_CHECK(q.rows() <= k.rows(), "attention: q holds summary rows but k and v hold text rows only");
  CheckLayout(args.layout, args.window, k.rows() == rows);
  CheckView("q", q, q.dtype, q.shape, stream.device);
  CheckView("k", k, q.dtype, k.shape.WithRows(k.rows()), stream.device);
  CheckView("v", args.v, q.dtype, k.shape, stream.device);
  CheckView("out", args.out, q.dtype, q.shape, stream.device);
  CheckView("lse", args.lse, AccumulationType(q.dtype), {q.rows(), q.shape[1]}, stream.device);
  KSA_CHECK(k.shape[2] == q.shape[2], "attention: head dim {} of k, {} of q", k.shape[2], q.shape[2]);
  KSA_CHECK(args.allocator == nullptr || args.allocator->device() == stream.device,
            "attention: the scratch allocator is of another device than the stream");
  KSA_CHECK(stream.threads >= 1, "attention: {} threads", stream.threads);
}

// Calls function.operator()<T>() with the C++ type of `dtype`.
template <typename Function>
void ForType(DType dtype, Function function) {
  switch (dtype) {
    case DType::kF64:
      return function.template operator()<double>();
    case DType::kF32:
      return function.template operator()<float>();
    case DType::kBF16:
      return function.template operator()<BFloat16>();
    case DType::kI32:
      break;
  }
  Fail(ExitCode::kInternal, "attention takes fp64, fp32 and bf16, got {}", NameOf(dtype));
}

void RequireCpu(const Stream& stream) {
  if (!stream.device.IsCpu()) {
    Fail(ExitCode::kInternal, "attention runs on the CPU only in this build; set run.device: cpu");
  }
}

}  // namespace

void AttentionForward(const AttentionForwardArgs& args, const Stream& stream) {
  Check(args, stream);
  RequireCpu(stream);
  PoolAllocator own;
  Allocator& scratch = args.allocator == nullptr ? own : *args.allocator;
  ForType(args.q.dtype, [&]<typename T>() { cpu_attention::Forward<T>(args, stream.threads, scratch); });
}

void AttentionBackward(const AttentionBackwardArgs& args, const Stream& stream) {
  Check(args, stream);
  CheckView("dout", args.dout, args.q.dtype, args.q.shape, stream.device);
  CheckView("dq", args.dq, args.q.dtype, args.q.shape, stream.device);
  CheckView("dk", args.dk, args.q.dtype, args.k.shape, stream.device);
  CheckView("dv", args.dv, args.q.dtype, args.k.shape, stream.device);
  RequireCpu(stream);
  PoolAllocator own;
  Allocator& scratch = args.allocator == nullptr ? own : *args.allocator;
  ForType(args.q.dtype, [&]<typename T>() { cpu_attention::Backward<T>(args, stream.threads, scratch); });
}

}  // namespace ksa
