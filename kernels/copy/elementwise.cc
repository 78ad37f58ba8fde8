#include "kernels/copy/elementwise.h"

#include "kernels/copy/copy_backends.h"
#include "kernels/copy/elementwise_scratch.h"
#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"

namespace ksa {

void Copy(const TensorView& from, const TensorView& to, const Stream& stream) {
  const ArgumentCheck check("Copy", stream);
  check.Elements("from", from, from.dtype, from.size());
  check.Elements("to", to, to.dtype, from.size());
  const auto work = [&] { return MovedBy(WorkKind::kRows, {from, to}); };
  RunOp("Copy", stream, {from.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("Copy", stream, cuda::Copy(from, to, stream));
      return;
    }
    if (from.dtype == DType::kI32 && to.dtype == DType::kI32) {
      cpu::Copy<int32_t, int32_t>(from, to, stream);
      return;
    }
    DispatchFloating(from.dtype, [&](auto source) {
      DispatchFloating(to.dtype, [&](auto target) { cpu::Copy<decltype(source), decltype(target)>(from, to, stream); });
    });
  });
}

void Zero(const TensorView& x, const Stream& stream) {
  const ArgumentCheck check("Zero", stream);
  check.Elements("x", x, x.dtype, x.size());
  const auto work = [&] { return MovedBy(WorkKind::kRows, {x}); };
  RunOp("Zero", stream, {x.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("Zero", stream, cuda::Zero(x, stream));
      return;
    }
    cpu::Zero(x, stream);
  });
}

void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream) {
  const ArgumentCheck check("Add", stream);
  check.Floating("a", a);
  check.Elements("a", a, a.dtype, a.size());
  check.Elements("b", b, a.dtype, a.size());
  check.Elements("y", y, a.dtype, a.size());
  const auto work = [&] { return MovedBy(WorkKind::kRows, {a, b, y}); };
  RunOp("Add", stream, {a.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("Add", stream, cuda::Add(a, b, y, stream));
      return;
    }
    DispatchFloating(a.dtype, [&](auto element) { cpu::Add<decltype(element)>(a, b, y, stream); });
  });
}

void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream) {
  const ArgumentCheck check("Axpby", stream);
  check.Floating("x", x);
  check.Elements("x", x, x.dtype, x.size());
  check.Elements("y", y, x.dtype, x.size());
  const auto work = [&] { return MovedBy(WorkKind::kRows, {x, y, b == 0.0 ? TensorView() : y}); };
  RunOp("Axpby", stream, {x.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("Axpby", stream, cuda::Axpby(a, x, b, y, stream));
      return;
    }
    DispatchFloating(x.dtype, [&](auto element) { cpu::Axpby<decltype(element)>(a, x, b, y, stream); });
  });
}

void SumOfSquares(const TensorView& x, const TensorView& out, const Stream& stream, Allocator* allocator) {
  const ArgumentCheck check("SumOfSquares", stream);
  check.Floating("x", x);
  check.Elements("x", x, x.dtype, x.size());
  check.Elements("out", out, DType::kF64, 1);
  const auto work = [&] { return MovedBy(WorkKind::kStream, {x}); };
  RunOp("SumOfSquares", stream, {x.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      if (stream.dry) {
        static_cast<void>(SumOfSquaresPartials(x, RequireScratch("SumOfSquares", allocator)));
      }
      KSA_CUDA_OR_FAIL(
          "SumOfSquares", stream, cuda::SumOfSquares(x, out, RequireScratch("SumOfSquares", allocator), stream));
      return;
    }
    DispatchFloating(x.dtype, [&](auto element) { cpu::SumOfSquares<decltype(element)>(x, out, stream); });
  });
}

void RaiseToLargest(const TensorView& x, const TensorView& out, const Stream& stream) {
  const ArgumentCheck check("RaiseToLargest", stream);
  check.Floating("x", x);
  check.Elements("x", x, x.dtype, x.size());
  check.Elements("out", out, DType::kF64, 1);
  KSA_CHECK(x.dtype != DType::kBF16, "RaiseToLargest takes fp32 and fp64");
  if (x.size() == 0) {
    return;
  }
  const auto work = [&] { return MovedBy(WorkKind::kStream, {x}); };
  RunOp("RaiseToLargest", stream, {x.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("RaiseToLargest", stream, cuda::RaiseToLargest(x, out, stream));
      return;
    }
    x.dtype == DType::kF64 ? cpu::RaiseToLargest<double>(x, out) : cpu::RaiseToLargest<float>(x, out);
  });
}

}  // namespace ksa
