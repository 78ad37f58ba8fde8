#include "trainer/commands/bench_inputs.h"

#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "kernels/core/philox.h"

namespace ksa {

Tensor RandomNormal(const std::string& name, const Shape& shape, DType dtype, Runtime& runtime) {
  constexpr int64_t kPool = 1 << 20;
  HostAllocator host;
  const Tensor values = Tensor::Empty(shape, dtype, host);
  const uint64_t key = NamedKey(1234, name);
  DispatchFloating(dtype, [&](auto element) {
    using T = decltype(element);
    T* out = values.As<T>();
    for (int64_t i = 0; i < values.size(); ++i) {
      out[i] = i < kPool ? static_cast<T>(static_cast<Accumulator<T>>(NormalAt(key, static_cast<uint64_t>(i))))
                         : out[i - kPool];
    }
  });
  Tensor x = Tensor::Empty(shape, dtype, runtime.allocator());
  CopyFromHost(values, x, runtime.stream());
  return x;
}

}  // namespace ksa
