#include "kernels/optimizer/adamw.h"

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/optimizer/optimizer_backends.h"

namespace ksa {

void AdamW(const AdamWArgs& args, const Stream& stream) {
  const ArgumentCheck check("AdamW", stream);
  const int64_t n = args.weight.size();
  for (const auto& [name, x] : {std::pair{"weight", &args.weight},
                                std::pair{"grad", &args.grad},
                                std::pair{"exp_avg", &args.exp_avg},
                                std::pair{"exp_avg_sq", &args.exp_avg_sq}}) {
    check.Elements(name, *x, args.weight.dtype, n);
  }
  if (!args.compute.empty()) {
    check.Elements("compute", args.compute, DType::kBF16, n);
  }
  check.Optional("grad_scale", args.grad_scale, DType::kF64, {1});
  if (args.step < 1) {
    Fail(ExitCode::kInternal, "AdamW: step is {}, updates count from 1", args.step);
  }
  const auto work = [&] {  // all but the gradient and the copy in the compute type are read and written
    const TensorView& w = args.weight;
    return MovedBy(WorkKind::kStream,
                   {w, w, args.grad, args.exp_avg, args.exp_avg, args.exp_avg_sq, args.exp_avg_sq, args.compute});
  };
  RunOp("AdamW", stream, {args.weight.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("AdamW", stream, cuda::AdamW(args, stream));
      return;
    }
    DispatchAccumulator(args.weight.dtype, [&](auto element) { cpu::AdamW<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
