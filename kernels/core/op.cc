#include "kernels/core/op.h"

#include <string>

#include "kernels/core/error.h"
#include "kernels/core/gpu.h"

#ifdef KSA_HAVE_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace ksa {
namespace {

// Begin and end, also when the operation throws.
class Marks {
 public:
  Marks(const char* op, const Stream& stream) : stream_(stream) {
#ifdef KSA_HAVE_CUDA
    nvtxRangePushA(op);
#endif
    if (stream_.tracer != nullptr) {
      stream_.tracer->Begin(op, stream_);
    }
  }

  Marks(const Marks&) = delete;
  Marks& operator=(const Marks&) = delete;

  ~Marks() {
    if (stream_.tracer != nullptr) {
      stream_.tracer->End(stream_);
    }
#ifdef KSA_HAVE_CUDA
    nvtxRangePop();
#endif
  }

 private:
  const Stream& stream_;
};

std::string Describe(std::initializer_list<Shape> shapes) {
  std::string text;
  for (const Shape& shape : shapes) {
    text += (text.empty() ? "" : ", ") + shape.ToString();
  }
  return text;
}

}  // namespace

void MarkStep(const Stream& stream, StepMark mark) {
  if (stream.tracer != nullptr) {
    stream.tracer->Mark(mark);
  }
}

void RunUncounted(const char* op,
                  const Stream& stream,
                  std::initializer_list<Shape> shapes,
                  const std::function<void()>& body) {
  if (stream.operations != nullptr) {
    stream.operations->fetch_add(1, std::memory_order_relaxed);
  }
  const Marks marks(op, stream);
  if (stream.device.IsCpu()) {
    if (!stream.dry) {
      body();
    }
    return;
  }
  try {
    body();
    if (stream.synchronous) {
      Synchronize(stream);
    }
  } catch (const DeviceError& error) {
    throw Error(error.code(), fmt::format("{} on tensors of shapes {}: {}", op, Describe(shapes), error.what()));
  }
}

}  // namespace ksa
