#include "trainer/loop/micro_batch.h"

#include <algorithm>

#include "kernels/core/op.h"

namespace ksa {

namespace {

void Concatenate(std::span<const std::span<const int32_t>> parts, int32_t* out) {
  for (const std::span<const int32_t> part : parts) {
    out = std::copy(part.begin(), part.end(), out);
  }
}

}  // namespace

void BatchUpload::Load(const ExecContext& cx, const Batch& batch) {
  const Parts parts = {batch.inputs, batch.targets, batch.document_first_chunk, batch.chunk_tokens};
  samples_ = batch.samples;
  sequence_length_ = batch.sequence_length;
  chunks_ = batch.chunks;
  documents_ = !batch.chunk_tokens.empty();
  int64_t size = 0;
  for (const std::span<const int32_t> part : parts) {
    size += static_cast<int64_t>(part.size());
  }
  if (values_.empty() || values_.size() != size) {
    values_ = cx.Empty({size}, DType::kI32);
  }
  RunOp("upload batch", cx.stream, {values_.shape()}, [&] {
    if (cx.stream.device.IsCpu()) {
      Concatenate(parts, values_.As<int32_t>());
    } else if (!cx.stream.dry) {
      Stage(parts, cx.stream);
    }
  });
}

void BatchUpload::Stage(const Parts& parts, const Stream& stream) {
  copied_.Wait();
  const int64_t bytes = values_.view().bytes();
  if (staging_ == nullptr || staging_->bytes() < bytes) {
    staging_ = std::make_unique<PinnedMemory>(std::max<int64_t>(1, bytes), stream);
  }
  Concatenate(parts, static_cast<int32_t*>(staging_->data()));
  CopyFromHost({staging_->data(), DType::kI32, {}, values_.shape()}, values_, stream);
  copied_.Record(stream);
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
