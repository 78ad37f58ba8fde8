#include "kernels/gemm/gemm.h"

#include <limits>

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/gemm/gemm_backends.h"

namespace ksa {
namespace {

GemmSize Check(const GemmArgs& args, const Stream& stream) {
  const ArgumentCheck check("Gemm", stream);
  for (const auto& [name, x] : {std::pair{"a", &args.a}, std::pair{"b", &args.b}, std::pair{"c", &args.c}}) {
    check.Rank(name, *x, 2);
    check.Floating(name, *x);
  }
  GemmSize size;
  size.m = args.transpose_a ? args.a.cols() : args.a.rows();
  size.k = args.transpose_a ? args.a.rows() : args.a.cols();
  size.n = args.transpose_b ? args.b.rows() : args.b.cols();
  check.Tensor("a", args.a, args.a.dtype, args.a.shape);
  check.Tensor("b", args.b, args.a.dtype, args.transpose_b ? Shape{size.n, size.k} : Shape{size.k, size.n});
  const bool wide = args.c.dtype == AccumulationType(args.a.dtype);
  check.Tensor("c", args.c, wide ? args.c.dtype : args.a.dtype, {size.m, size.n});
  for (const int64_t extent : {size.m, size.n, size.k}) {
    check.Within("an extent", extent, 0, std::numeric_limits<int32_t>::max());
  }
  return size;
}

}  // namespace

void Gemm(const GemmArgs& args, const Stream& stream) {
  const GemmSize size = Check(args, stream);
  const auto work = [&] {
    OpWork product = MovedBy(WorkKind::kProduct, {args.a, args.b, args.c, args.beta == 0.0 ? TensorView() : args.c});
    product.done = 2 * size.m * size.n * size.k;
    product.useful = product.done;
    return product;
  };
  RunOp("Gemm", stream, {args.a.shape, args.b.shape, args.c.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("Gemm", stream, cuda::Gemm(args, size, stream));
      return;
    }
    DispatchFloating(args.a.dtype, [&](auto element) {
      using T = decltype(element);
      if (args.c.dtype == args.a.dtype) {
        cpu::Gemm<T, T>(args, size, stream);
      } else {
        cpu::Gemm<T, Accumulator<T>>(args, size, stream);
      }
    });
  });
}

}  // namespace ksa
