#include "trainer/loop/micro_batch.h"

#include <algorithm>

namespace ksa {
namespace {

Tensor CopyOf(const ExecContext& cx, const std::vector<int32_t>& values, int64_t first, int64_t count) {
  Tensor tensor = cx.Empty({count}, DType::kI32);
  std::copy_n(values.begin() + first, count, tensor.As<int32_t>());
  return tensor;
}

}  // namespace

MicroBatch Slice(const ExecContext& cx, const ModelConfig& model, const Batch& batch, int32_t first, int32_t count) {
  const int64_t t = batch.sequence_length;
  const int64_t chunk = int64_t{1} * first * batch.chunks;
  const bool documents = !batch.chunk_tokens.empty();
  MicroBatch micro;
  micro.ids = CopyOf(cx, batch.inputs, first * t, count * t);
  micro.targets = CopyOf(cx, batch.targets, first * t, count * t);
  micro.layout = MakeLayout(model,
                            count,
                            batch.sequence_length,
                            documents ? batch.document_first_chunk.data() + chunk : nullptr,
                            documents ? batch.chunk_tokens.data() + chunk : nullptr);
  return micro;
}

}  // namespace ksa
