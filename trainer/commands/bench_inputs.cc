#include "trainer/commands/bench_inputs.h"

#include "data/loader/batch.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "kernels/core/philox.h"
#include "model/mixers/model_config.h"

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

Batch RandomBatch(const ModelConfig& model, int64_t first, int32_t samples, int32_t length) {
  Batch batch;
  batch.samples = samples;
  batch.sequence_length = length;
  batch.chunks = (length + model.ChunkSize() - 1) / model.ChunkSize();
  batch.target_count = int64_t{1} * samples * length;
  const uint64_t key = NamedKey(1234, "bench.tokens");
  const auto token = [&](int64_t i) {
    const uint32_t bits = Philox4x32(key, static_cast<uint64_t>(i))[0];
    return static_cast<int32_t>(bits % static_cast<uint32_t>(model.vocab_size));
  };
  for (int32_t sample = 0; sample < samples; ++sample) {
    for (int64_t i = 0; i < length; ++i) {
      const int64_t at = (first + sample) * (int64_t{1} + length) + i;
      batch.inputs.push_back(token(at));
      batch.targets.push_back(token(at + 1));
    }
  }
  return batch;
}

}  // namespace ksa
