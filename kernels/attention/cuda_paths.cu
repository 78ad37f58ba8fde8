// Which implementation does a call, and the order of its kernels.
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/attention/cuda_paths.h"
#include "kernels/copy/copy_backends.h"
#include "kernels/core/error.h"
#include "kernels/core/warning.h"

namespace ksa::cuda_attention {
namespace {

constexpr AttentionPath kFastestFirst[] = {
    AttentionPath::kWgmma, AttentionPath::kCudnn, AttentionPath::kMma, AttentionPath::kPlain};

// Where cuDNN comes before all others. On an H200 with cuDNN 9.19 it takes, of the time of our sm_90a kernels on full
// layers of 8K and 32K, 0.9 in forward with head dim 64 but 1.1 with 128, and 0.9 in backward where the order of
// additions may vary; its deterministic backward takes 1.0 to 1.2, and gigabytes of scratch.
bool CudnnIsFastest(const AttentionForwardArgs& args, const Stream& /*stream*/) {
  return args.q.shape[2] == 64;
}

bool CudnnIsFastest(const AttentionBackwardArgs& /*args*/, const Stream& stream) {
  return !stream.deterministic;
}

std::string_view NameOf(AttentionPath path) {
  switch (path) {
    case AttentionPath::kAuto:
      return "auto";
    case AttentionPath::kPlain:
      return "plain";
    case AttentionPath::kMma:
      return "mma";
    case AttentionPath::kWgmma:
      return "wgmma";
    case AttentionPath::kCudnn:
      return "cudnn";
  }
  return "unknown";
}

bool CudnnSupports(const AttentionForwardArgs& args, const Stream& /*stream*/) {
  return cudnn::Supports(args);
}

bool CudnnSupports(const AttentionBackwardArgs& args, const Stream& stream) {
  return cudnn::Supports(args, stream.deterministic);
}

// Why a path cannot do the call; empty when it can.
template <typename Args>
std::string_view Refusal(AttentionPath path, const Args& args, const Stream& stream) {
  const DType dtype = args.q.dtype;
  const HeadDims dims = HeadDimsOf(args);
  switch (path) {
    case AttentionPath::kCudnn:
      return CudnnSupports(args, stream)
                 ? ""
                 : "it needs cuDNN, bf16, head dim 64 or 128 (or keys of 192 and values of 128), the scale of the head "
                   "dim, and a full layer without documents";
    case AttentionPath::kWgmma:
      return wgmma::Supports(dtype, dims, args.q.device)
                 ? ""
                 : "it needs bf16, head dim 64 or 128 or keys of 192 and values of 128, and a GPU of compute "
                   "capability 9.0";
    case AttentionPath::kMma:
      return mma::Supports(dtype, dims, args.q.device) ? ""
                                                       : "it needs bf16 and head dim 64 or 128, or keys of 192 and "
                                                         "values of 128 and a GPU with the shared memory "
                                                         "for them";
    case AttentionPath::kPlain:
    case AttentionPath::kAuto:
      break;
  }
  return "";
}

void CheckType(const TensorView& q) {
  KSA_CHECK(q.dtype == DType::kF32 || q.dtype == DType::kBF16,
            "attention on a GPU takes fp32 and bf16, not {}",
            ksa::NameOf(q.dtype));
}

// The fastest path of our own that can do the call.
template <typename Args>
AttentionPath ChooseOwn(const Args& args, const Stream& stream) {
  for (const AttentionPath path : kFastestFirst) {
    if (path != AttentionPath::kCudnn && Refusal(path, args, stream).empty()) {
      return path;
    }
  }
  return AttentionPath::kPlain;
}

// The path that the call names, or the fastest that can do it. cuDNN may refuse it yet.
template <typename Args>
AttentionPath Choose(const Args& args, const Stream& stream) {
  if (args.path != AttentionPath::kAuto) {
    const std::string_view refusal = Refusal(args.path, args, stream);
    KSA_CHECK(refusal.empty(),
              "attention of {} with q {} cannot run on path '{}': {}",
              ksa::NameOf(args.q.dtype),
              args.q.shape.ToString(),
              NameOf(args.path),
              refusal);
    return args.path;
  }
  if (CudnnIsFastest(args, stream) && CudnnSupports(args, stream)) {
    return AttentionPath::kCudnn;
  }
  for (const AttentionPath path : kFastestFirst) {
    if (Refusal(path, args, stream).empty()) {
      return path;
    }
  }
  return AttentionPath::kPlain;
}

// After cuDNN's answer to a call for which it was chosen: whether our own kernels do it instead. Memory is planned for
// both: what cuDNN takes is known only on the GPU.
template <typename Args>
bool NeedsOwn(const Args& args, const std::string& refusal, const Stream& stream) {
  if (refusal.empty()) {
    return stream.dry && args.path == AttentionPath::kAuto;
  }
  KSA_CHECK(args.path == AttentionPath::kAuto, "attention cannot run on path 'cudnn': {}", refusal);
  WarnOnce(fmt::format("{}; our own kernels do it instead", refusal));
  return true;
}

// cuDNN knows the text alone, and computes the delta of its rows itself. Returns why it refuses the call, of which then
// nothing is done.
std::string BackwardByCudnn(const AttentionBackwardArgs& args, Allocator& scratch, const Stream& stream) {
  std::string refusal = cudnn::BackwardText(args, scratch, stream.deterministic, stream);
  const int64_t text = args.layout.text_rows();
  if (!refusal.empty() || args.k.rows() == text) {
    return refusal;
  }
  const Tensor delta = Tensor::Empty(args.lse.shape, DType::kF32, scratch);
  const int64_t summaries = args.q.rows() - text;
  if (summaries > 0) {
    AttentionBackwardArgs rows = args;
    rows.out = args.out.Rows(text, summaries);
    rows.dout = args.dout.Rows(text, summaries);
    OutputDelta(rows, delta.Rows(text, summaries), stream);
  }
  SummaryBackwardQueries(args, delta, stream);
  SummaryAddToKeys(args, delta, stream);
  return refusal;
}

// `x`, whose rows are queries, as if the `missing` rows of the layout before its first one were there too: kernels then
// find a query by its row of the layout, and never touch what is not there. Row 0 then lies before the allocation,
// where a pointer of C++ must not go, not even below address 0 as in a plan: the address is made as a number.
TensorView ByRowOfLayout(const TensorView& x, int64_t missing) {
  TensorView rows = x;
  const auto before = static_cast<uintptr_t>(missing * x.cols() * SizeOf(x.dtype));
  rows.data = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(x.data) - before);
  rows.shape = x.shape.WithRows(missing + x.rows());
  return rows;
}

// Rows of the layout before the first one that q holds.
template <typename Args>
int64_t MissingRows(const Args& args) {
  return args.text_queries ? args.layout.query_begin : args.layout.text_rows();
}

AttentionForwardArgs ByRowOfLayout(const AttentionForwardArgs& args) {
  const int64_t missing = MissingRows(args);
  AttentionForwardArgs rows = args;
  for (TensorView* x : {&rows.q, &rows.out, &rows.lse}) {
    *x = ByRowOfLayout(*x, missing);
  }
  return rows;
}

AttentionBackwardArgs ByRowOfLayout(const AttentionBackwardArgs& args) {
  const int64_t missing = MissingRows(args);
  AttentionBackwardArgs rows = args;
  for (TensorView* x : {&rows.q, &rows.out, &rows.lse, &rows.dout, &rows.dq}) {
    *x = ByRowOfLayout(*x, missing);
  }
  return rows;
}

void ForwardText(AttentionPath path, const AttentionForwardArgs& args, const Stream& stream) {
  switch (path) {
    case AttentionPath::kWgmma:
      wgmma::ForwardText(args, stream);
      break;
    case AttentionPath::kMma:
      mma::ForwardText(args, stream);
      break;
    default:
      plain::ForwardText(args, stream);
      break;
  }
}

// By our own kernels. `call`: what `args` was before it was numbered by rows of the layout.
void BackwardByOwn(AttentionPath path,
                   const AttentionBackwardArgs& call,
                   const AttentionBackwardArgs& args,
                   Allocator& scratch,
                   const Stream& stream) {
  const Tensor held_delta = Tensor::Empty(call.lse.shape, DType::kF32, scratch);
  OutputDelta(call, held_delta, stream);
  const TensorView delta = ByRowOfLayout(held_delta, MissingRows(call));
  SummaryBackwardQueries(args, delta, stream);
  if (!call.text_queries) {
    SummaryBackwardKeys(args, delta, stream);
    return;
  }
  switch (path) {
    case AttentionPath::kWgmma:
      wgmma::BackwardQueries(args, delta, stream);
      wgmma::BackwardKeys(args, delta, scratch, stream);
      break;
    case AttentionPath::kMma:
      mma::BackwardQueries(args, delta, stream);
      mma::BackwardKeys(args, delta, stream);
      break;
    default:
      plain::BackwardQueries(args, delta, stream);
      plain::BackwardKeys(args, delta, stream);
      break;
  }
}

}  // namespace

void Forward(const AttentionForwardArgs& call, Allocator& scratch, const Stream& stream) {
  CheckType(call.q);
  const AttentionForwardArgs args = ByRowOfLayout(call);
  if (args.text_queries) {
    AttentionPath path = Choose(args, stream);
    const bool by_cudnn = path == AttentionPath::kCudnn;
    if (by_cudnn && NeedsOwn(args, cudnn::ForwardText(args, scratch, stream), stream)) {
      path = ChooseOwn(args, stream);
    }
    if (path != AttentionPath::kCudnn) {
      ForwardText(path, args, stream);
    }
  }
  SummaryForward(args, stream);
}

void Backward(const AttentionBackwardArgs& call, Allocator& scratch, const Stream& stream) {
  CheckType(call.q);
  if (call.q.rows() == 0) {
    cuda::Zero(call.dk, stream);
    cuda::Zero(call.dv, stream);
    return;
  }
  const AttentionBackwardArgs args = ByRowOfLayout(call);
  AttentionPath path = call.text_queries ? Choose(args, stream) : AttentionPath::kAuto;
  if (path == AttentionPath::kCudnn) {
    if (!NeedsOwn(args, BackwardByCudnn(args, scratch, stream), stream)) {
      return;
    }
    path = ChooseOwn(args, stream);
  }
  BackwardByOwn(path, call, args, scratch, stream);
}

}  // namespace ksa::cuda_attention
