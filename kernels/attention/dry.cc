#include "kernels/attention/dry.h"

#include "kernels/attention/cudnn/problem.h"
#include "kernels/attention/wgmma/keys_work.h"
#include "kernels/core/error.h"

namespace ksa::dry_attention {
namespace {

using cuda_attention::HeadDimsOf;
using cuda_attention::cudnn::PartOf;
using cuda_attention::cudnn::Problem;
using cuda_attention::cudnn::ProblemOf;
using cuda_attention::wgmma::TakesHeads;

void CheckPath(AttentionPath path) {
  KSA_CHECK(path == AttentionPath::kAuto,
            "attention on a dry stream has no paths to choose from in a build without CUDA");
}

Tensor Workspace(const Problem& problem, Allocator& scratch) {
  return Tensor::Empty({(WorkspaceBound(problem) + 3) / 4}, DType::kI32, scratch);
}

// Types and sizes that the Hopper kernels are made for.
template <typename Args>
bool HasFastKernels(const Args& args) {
  return args.q.dtype == DType::kBF16 && TakesHeads(HeadDimsOf(args));
}

}  // namespace

// What cuDNN takes is known only on the GPU, and so whether it takes the call at all: then memory is planned for it and
// for our own kernels, of which forward takes none.
void Forward(const AttentionForwardArgs& args, Allocator& scratch, const Stream& /*stream*/) {
  CheckPath(args.path);
  if (args.text_queries && (args.q.shape[2] == 64 || !HasFastKernels(args)) && cuda_attention::cudnn::Takes(args)) {
    static_cast<void>(Workspace(ProblemOf(args), scratch));
  }
}

void Backward(const AttentionBackwardArgs& args, Allocator& scratch, const Stream& stream) {
  CheckPath(args.path);
  if (args.q.rows() == 0) {
    return;
  }
  const bool first = !stream.deterministic || !HasFastKernels(args);  // before our own
  if (args.text_queries && first && cuda_attention::cudnn::Takes(args, stream.deterministic)) {
    static_cast<void>(Workspace(PartOf(ProblemOf(args, stream.deterministic)), scratch));
    if (args.k.rows() != args.layout.text_rows()) {
      static_cast<void>(Tensor::Empty(args.lse.shape, DType::kF32, scratch));
    }
  }
  const Tensor delta = Tensor::Empty(args.lse.shape, DType::kF32, scratch);
  if (args.text_queries && HasFastKernels(args)) {
    static_cast<void>(cuda_attention::wgmma::TakeKeyScratch(cuda_attention::wgmma::MakeKeyWork(args), scratch));
  }
}

}  // namespace ksa::dry_attention
