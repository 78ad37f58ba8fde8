#include "kernels/gemm/gemm.h"

#include <limits>
#include <vector>

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

OpWork WorkOf(const GemmArgs& args, const GemmSize& size) {
  OpWork product = MovedBy(WorkKind::kProduct, {args.a, args.b, args.c, args.beta == 0.0 ? TensorView() : args.c});
  product.done = 2 * size.m * size.n * size.k;
  product.useful = product.done;
  return product;
}

void Run(const GemmArgs& args, const GemmSize& size, const Stream& stream) {
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
}

}  // namespace

void Gemm(const GemmArgs& args, const Stream& stream) {
  const GemmSize size = Check(args, stream);
  const auto work = [&] { return WorkOf(args, size); };
  RunOp("Gemm", stream, {args.a.shape, args.b.shape, args.c.shape}, work, [&] { Run(args, size, stream); });
}

void Gemms(std::span<const GemmArgs> products, const Stream& stream) {
  bool together = false;
  if (!stream.device.IsCpu() && !products.empty()) {
    std::vector<GemmSize> sizes;
    OpWork all = {.kind = WorkKind::kProduct};
    for (const GemmArgs& args : products) {
      sizes.push_back(Check(args, stream));
      const OpWork work = WorkOf(args, sizes.back());
      all.useful += work.useful;
      all.done += work.done;
      all.bytes += work.bytes;
    }
    KSA_CUDA_OR_FAIL("Gemms", stream, together = cuda::CanTakeFewRows(products, sizes));
    if (together) {
      const auto run = [&] { KSA_CUDA_OR_FAIL("Gemms", stream, cuda::FewRows(products, sizes, stream)); };
      RunOp(
          "Gemms", stream, {products[0].a.shape, products[0].b.shape}, [&] { return all; }, run);
    }
  }
  for (size_t i = 0; i < products.size() && !together; ++i) {
    Gemm(products[i], stream);
  }
}

}  // namespace ksa
