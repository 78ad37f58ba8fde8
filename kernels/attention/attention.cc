#include "kernels/attention/attention.h"

#include "kernels/attention/check.h"
#include "kernels/attention/cpu/attention.h"
#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/dry.h"
#include "kernels/attention/pairs.h"
#include "kernels/attention/query_rows.h"
#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"
#include "kernels/core/op.h"
#include "kernels/core/parallel.h"
#include "kernels/core/tensor_work.h"

namespace ksa {
namespace {

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
  CheckAttentionRows({.layout = args.layout,
                      .window = args.window,
                      .text_queries = args.text_queries,
                      .query_rows = args.q.rows(),
                      .key_rows = args.k.rows()});
  check.Tensor("q", args.q, dtype, args.q.shape);
  check.Tensor("k", args.k, dtype, {args.k.rows(), groups, args.q.shape[2]});
  check.Rank("v", args.v, 3);
  check.Tensor("v", args.v, dtype, {args.k.rows(), groups, args.v.shape[2]});
  check.Tensor("out", args.out, dtype, {args.q.rows(), heads, args.v.shape[2]});
  KSA_CHECK(args.v.shape[2] > 0 && args.scale >= 0.0,
            "attention: values of {} columns a head, scale {}; expected at least one, and no negative number",
            args.v.shape[2],
            args.scale);
  check.Tensor("lse", args.lse, AccumulationType(dtype), {args.q.rows(), heads});
  KSA_CHECK(args.allocator == nullptr || args.allocator->device() == args.q.device,
            "attention: the scratch allocator is of another device than q");
}

// Forward multiplies each pair twice, backward five times, one of these again what forward did. Keys are read once; of
// summary queries alone those of their chunks, which the rows themselves are as many as.
template <typename Args>
OpWork WorkOf(const Args& args, bool backward) {
  const int64_t pair = args.q.shape[1] * (args.q.shape[2] + args.v.shape[2]);  // multiply-adds
  const PairCount text = args.text_queries ? CountTextPairs(args.layout, args.window) : PairCount();
  OpWork work = MovedBy(WorkKind::kRows, {args.q, args.k, args.v, args.out, args.lse});
  work.text_pairs = text.Total();
  work.summary_pairs = QueryRowsOf(args).summaries > 0 ? CountSummaryPairs(args.layout) : 0;
  const int64_t pairs = work.text_pairs + work.summary_pairs;
  work.useful = (backward ? 4 : 2) * pair * pairs;
  work.done = (backward ? 5 : 2) * pair * pairs;
  if (args.text_queries) {
    work.kind = backward ? WorkKind::kAttentionBackward : WorkKind::kAttentionForward;
    work.text_queries = args.layout.query_rows();
  }
  return work;
}

template <typename Args>
void CheckOnCpu(const Args& args) {
  KSA_CHECK(args.path == AttentionPath::kAuto, "attention on the CPU has one implementation; its path is kAuto");
}

// A build with CUDA runs its paths on dry streams too: which they are, they know.
void ForwardOnDevice(const AttentionForwardArgs& args, const Stream& stream) {
  Allocator& scratch = RequireScratch("AttentionForward", args.allocator);
#ifdef KSA_HAVE_CUDA
  cuda_attention::Forward(args, scratch, stream);
#else
  if (!stream.dry) {
    FailDevice("AttentionForward", stream.device);
  }
  dry_attention::Forward(args, scratch, stream);
#endif
}

void BackwardOnDevice(const AttentionBackwardArgs& args, const Stream& stream) {
  Allocator& scratch = RequireScratch("AttentionBackward", args.allocator);
#ifdef KSA_HAVE_CUDA
  cuda_attention::Backward(args, scratch, stream);
#else
  if (!stream.dry) {
    FailDevice("AttentionBackward", stream.device);
  }
  dry_attention::Backward(args, scratch, stream);
#endif
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
  const auto work = [&] { return WorkOf(args, false); };
  RunOp("AttentionForward", stream, {args.q.shape, args.k.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      ForwardOnDevice(args, stream);
      return;
    }
    CheckOnCpu(args);
    HostAllocator own;
    Allocator& scratch = args.allocator == nullptr ? own : *args.allocator;
    DispatchFloating(args.q.dtype, [&](auto element) {
      cpu_attention::Forward<decltype(element)>(args, ThreadsFor(stream, args.q.size()), scratch);
    });
  });
}

void AttentionBackward(const AttentionBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("AttentionBackward", stream);
  CheckShared(check, args);
  check.Tensor("dout", args.dout, args.q.dtype, args.out.shape);
  check.Tensor("dq", args.dq, args.q.dtype, args.q.shape);
  check.Tensor("dk", args.dk, args.q.dtype, args.k.shape);
  check.Tensor("dv", args.dv, args.q.dtype, args.v.shape);
  const auto work = [&] {
    OpWork backward = WorkOf(args, true);
    backward.bytes += MovedBy(backward.kind, {args.dout, args.dq, args.dk, args.dv}).bytes;
    return backward;
  };
  RunOp("AttentionBackward", stream, {args.q.shape, args.k.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      BackwardOnDevice(args, stream);
      return;
    }
    CheckOnCpu(args);
    HostAllocator own;
    Allocator& scratch = args.allocator == nullptr ? own : *args.allocator;
    DispatchFloating(args.q.dtype, [&](auto element) {
      cpu_attention::Backward<decltype(element)>(args, ThreadsFor(stream, args.q.size()), scratch);
    });
  });
}

}  // namespace ksa
