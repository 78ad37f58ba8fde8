// RunOp: what every operation of a kernel family goes through, whatever the device.
#pragma once

#include <functional>
#include <initializer_list>

#include "kernels/core/device.h"
#include "kernels/core/shape.h"

namespace ksa {

// Hears of every operation on the streams that carry it. Calls nest; they come from the thread that issues the work.
class Tracer {
 public:
  Tracer() = default;
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;
  virtual ~Tracer() = default;

  virtual void Begin(const char* op, const Stream& stream) = 0;
  virtual void End(const Stream& stream) noexcept = 0;  // also of an operation that threw
};

// Runs `body` as the operation `op` on tensors of these shapes: marks it for profilers (an NVTX range where CUDA is
// built in) and for the stream's tracer, waits for it on a synchronous stream, and adds op and shapes to device errors.
void RunOp(const char* op,
           const Stream& stream,
           std::initializer_list<Shape> shapes,
           const std::function<void()>& body);

}  // namespace ksa

// The device side of an operation: `call` where CUDA is built in; elsewhere an Error that says so. Used as
//   if (!stream.device.IsCpu()) { KSA_CUDA_OR_FAIL("Gemm", stream, cuda::Gemm(args, stream)); return; }
#ifdef KSA_HAVE_CUDA
#define KSA_CUDA_OR_FAIL(op, stream, call) call
#else
#define KSA_CUDA_OR_FAIL(op, stream, call) ::ksa::FailDevice(op, (stream).device)
#endif
