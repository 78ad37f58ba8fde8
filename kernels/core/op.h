// RunOp: what every operation of a kernel family goes through, whatever the device.
#pragma once

#include <functional>
#include <initializer_list>

#include "kernels/core/device.h"
#include "kernels/core/shape.h"
#include "kernels/core/work.h"

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

  // Whether Count is to be called; else what an operation computes is not even asked for.
  [[nodiscard]] virtual bool counts() const { return false; }

  // Before an operation's Begin: what it will compute and move, the operations inside it included.
  virtual void Count(const char* /*op*/, const OpWork& /*work*/) {}

  // A place between operations in a step.
  virtual void Mark(StepMark /*mark*/) {}
};

// Tells the stream's tracer, if it has one, where the run is.
void MarkStep(const Stream& stream, StepMark mark);

// Runs `body` as the operation `op` on tensors of these shapes: marks it for profilers (an NVTX range where CUDA is
// built in) and for the stream's tracer, waits for it on a synchronous stream, and adds op and shapes to device errors.
void RunUncounted(const char* op,
                  const Stream& stream,
                  std::initializer_list<Shape> shapes,
                  const std::function<void()>& body);

// The same, and tells a tracer that counts what `work()` says: an OpWork. Every operation says so, or where it is
// nothing gives NoWork.
template <typename WorkOf>
void RunOp(const char* op,
           const Stream& stream,
           std::initializer_list<Shape> shapes,
           const WorkOf& work,
           const std::function<void()>& body) {
  if (stream.tracer != nullptr && stream.tracer->counts()) {
    stream.tracer->Count(op, work());
  }
  RunUncounted(op, stream, shapes, body);
}

}  // namespace ksa

// The device side of an operation: `call` where CUDA is built in; elsewhere an Error that says so. On a dry stream
// nothing, in any build: an operation that takes scratch takes it before. Used as
//   if (!stream.device.IsCpu()) { KSA_CUDA_OR_FAIL("Gemm", stream, cuda::Gemm(args, stream)); return; }
#ifdef KSA_HAVE_CUDA
#define KSA_CUDA_OR_FAIL(op, stream, call) \
  do {                                     \
    if (!(stream).dry) {                   \
      call;                                \
    }                                      \
  } while (false)
#else
#define KSA_CUDA_OR_FAIL(op, stream, call)    \
  do {                                        \
    if (!(stream).dry) {                      \
      ::ksa::FailDevice(op, (stream).device); \
    }                                         \
  } while (false)
#endif
