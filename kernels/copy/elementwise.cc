#include "kernels/copy/elementwise.h"

#include "kernels/copy/elementwise_cpu.h"
#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"

namespace ksa {
namespace {

void RequireCpu(const char* kernel, const Stream& stream) {
  if (!stream.device.IsCpu()) {
    FailDevice(kernel, stream.device);
  }
}

}  // namespace

void Copy(const TensorView& from, const TensorView& to, const Stream& stream) {
  const ArgumentCheck check("Copy", stream);
  check.Elements("from", from, from.dtype, from.size());
  check.Elements("to", to, to.dtype, from.size());
  RequireCpu("Copy", stream);
  if (from.dtype == DType::kI32 && to.dtype == DType::kI32) {
    cpu::Copy<int32_t, int32_t>(from, to, stream);
    return;
  }
  DispatchFloating(from.dtype, [&](auto source) {
    DispatchFloating(to.dtype, [&](auto target) { cpu::Copy<decltype(source), decltype(target)>(from, to, stream); });
  });
}

void Zero(const TensorView& x, const Stream& stream) {
  const ArgumentCheck check("Zero", stream);
  check.Elements("x", x, x.dtype, x.size());
  RequireCpu("Zero", stream);
  cpu::Zero(x, stream);
}

void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream) {
  const ArgumentCheck check("Add", stream);
  check.Floating("a", a);
  check.Elements("a", a, a.dtype, a.size());
  check.Elements("b", b, a.dtype, a.size());
  check.Elements("y", y, a.dtype, a.size());
  RequireCpu("Add", stream);
  DispatchFloating(a.dtype, [&](auto element) { cpu::Add<decltype(element)>(a, b, y, stream); });
}

void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream) {
  const ArgumentCheck check("Axpby", stream);
  check.Floating("x", x);
  check.Elements("x", x, x.dtype, x.size());
  check.Elements("y", y, x.dtype, x.size());
  RequireCpu("Axpby", stream);
  DispatchFloating(x.dtype, [&](auto element) { cpu::Axpby<decltype(element)>(a, x, b, y, stream); });
}

void SumOfSquares(const TensorView& x, const TensorView& out, const Stream& stream) {
  const ArgumentCheck check("SumOfSquares", stream);
  check.Floating("x", x);
  check.Elements("x", x, x.dtype, x.size());
  check.Elements("out", out, DType::kF64, 1);
  RequireCpu("SumOfSquares", stream);
  DispatchFloating(x.dtype, [&](auto element) { cpu::SumOfSquares<decltype(element)>(x, out, stream); });
}

}  // namespace ksa
