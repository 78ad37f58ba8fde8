#include "trainer/loop/micro_batch.h"

#include <algorithm>
#include <array>

#include "kernels/core/op.h"

namespace ksa {

void BatchUpload::Load(const ExecContext& cx, const Batch& batch) {
  const std::array<const std::vector<int32_t>*, 4> parts = {
      &batch.inputs, &batch.targets, &batch.document_first_chunk, &batch.chunk_tokens};
  samples_ = batch.samples;
  sequence_length_ = batch.sequence_length;
  chunks_ = batch.chunks;
  documents_ = !batch.chunk_tokens.empty();
  int64_t size = 0;
  for (const std::vector<int32_t>* part : parts) {
    size += static_cast<int64_t>(part->size());
  }
  copied_.Wait();
  if (staging_ == nullptr || staging_->bytes() < size * SizeOf(DType::kI32)) {
    staging_ = std::make_unique<PinnedMemory>(std::max<int64_t>(1, size) * SizeOf(DType::kI32));
  }
  auto* out = static_cast<int32_t*>(staging_->data());
  for (const std::vector<int32_t>* part : parts) {
    out = std::copy(part->begin(), part->end(), out);
  }
  if (values_.empty() || values_.size() != size) {
    values_ = cx.Empty({size}, DType::kI32);
  }
  const TensorView staged{staging_->data(), DType::kI32, {}, {size}};
  RunOp("upload batch", cx.stream, {values_.shape()}, [&] { CopyFromHost(staged, values_, cx.stream); });
  copied_.Record(cx.stream);
}

MicroBatch BatchUpload::Slice(const ModelConfig& model, int32_t first, int32_t count) const {
  const int64_t t = sequence_length_;
  const int64_t rows = samples_ * t;
  const int32_t* first_chunk = nullptr;
  const int32_t* chunk_tokens = nullptr;
  if (documents_) {
    first_chunk = values_.As<int32_t>() + 2 * rows + int64_t{1} * first * chunks_;
    chunk_tokens = first_chunk + int64_t{1} * samples_ * chunks_;
  }
  return {.ids = values_.Rows(first * t, count * t),
          .targets = values_.Rows(rows + first * t, count * t),
          .layout = MakeLayout(model, count, sequence_length_, first_chunk, chunk_tokens)};
}

}  // namespace ksa
