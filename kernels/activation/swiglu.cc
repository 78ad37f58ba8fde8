#include "kernels/activation/swiglu.h"

#include "kernels/activation/swiglu_backends.h"
#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"

namespace ksa {

void SwigluForward(const SwigluForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("SwigluForward", stream);
  check.Floating("gate", args.gate);
  for (const auto& [name, x] : {std::pair{"gate", &args.gate}, std::pair{"up", &args.up}, std::pair{"y", &args.y}}) {
    check.Tensor(name, *x, args.gate.dtype, args.gate.shape);
  }
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.gate, args.up, args.y}); };
  RunOp("SwigluForward", stream, {args.gate.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("SwigluForward", stream, cuda::SwigluForward(args, stream));
      return;
    }
    DispatchFloating(args.gate.dtype, [&](auto element) { cpu::SwigluForward<decltype(element)>(args, stream); });
  });
}

void SwigluBackward(const SwigluBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("SwigluBackward", stream);
  check.Floating("gate", args.gate);
  for (const auto& [name, x] : {std::pair{"dy", &args.dy},
                                std::pair{"gate", &args.gate},
                                std::pair{"up", &args.up},
                                std::pair{"dgate", &args.dgate},
                                std::pair{"dup", &args.dup}}) {
    check.Tensor(name, *x, args.gate.dtype, args.gate.shape);
  }
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.dy, args.gate, args.up, args.dgate, args.dup}); };
  RunOp("SwigluBackward", stream, {args.gate.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("SwigluBackward", stream, cuda::SwigluBackward(args, stream));
      return;
    }
    DispatchFloating(args.gate.dtype, [&](auto element) { cpu::SwigluBackward<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
