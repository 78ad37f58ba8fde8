// Which implementation does a call, and the order of its kernels.
#include <string_view>

#include "kernels/attention/attention_cuda.h"
#include "kernels/core/cuda.h"
#include "kernels/core/error.h"

namespace ksa::cuda_attention {
namespace {

constexpr AttentionPath kFastestFirst[] = {AttentionPath::kPlain};

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

// Why a path cannot do the call; empty when it can.
template <typename Args>
std::string_view Refusal(AttentionPath path, const Args& /*args*/, const Stream& /*stream*/) {
  switch (path) {
    case AttentionPath::kPlain:
      return "";
    default:
      return "it is not in this build";
  }
}

// The path that the call names, or the fastest that can do it.
template <typename Args>
AttentionPath Choose(const Args& args, const Stream& stream) {
  KSA_CHECK(args.q.dtype == DType::kF32 || args.q.dtype == DType::kBF16,
            "attention on a GPU takes fp32 and bf16, not {}",
            ksa::NameOf(args.q.dtype));
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
  for (const AttentionPath path : kFastestFirst) {
    if (Refusal(path, args, stream).empty()) {
      return path;
    }
  }
  return AttentionPath::kPlain;
}

}  // namespace

void Forward(const AttentionForwardArgs& args, Allocator& /*scratch*/, const Stream& stream) {
  switch (Choose(args, stream)) {
    default:
      plain::ForwardText(args, stream);
      break;
  }
  SummaryForward(args, stream);
}

void Backward(const AttentionBackwardArgs& args, Allocator& scratch, const Stream& stream) {
  const AttentionPath path = Choose(args, stream);
  const Tensor delta = Tensor::Empty(args.lse.shape, DType::kF32, scratch);
  OutputDelta(args, delta, stream);
  switch (path) {
    default:
      plain::BackwardQueries(args, delta, stream);
      plain::BackwardKeys(args, delta, stream);
      break;
  }
  SummaryBackwardQueries(args, delta, stream);
}

}  // namespace ksa::cuda_attention
