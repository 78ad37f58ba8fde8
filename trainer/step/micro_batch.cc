#include "trainer/step/micro_batch.h"

#include <algorithm>

#include "kernels/core/op.h"
#include "parallel/context/slices.h"

namespace ksa {
namespace {

void Concatenate(std::span<const std::span<const int32_t>> parts, int32_t* out) {
  for (const std::span<const int32_t> part : parts) {
    out = std::copy(part.begin(), part.end(), out);
  }
}

}  // namespace

void BatchUpload::Load(const ExecContext& cx, const ModelConfig& model, const Batch& batch) {
  context_ranks_ = cx.mesh == nullptr ? 1 : cx.mesh->Size(MeshAxis::kContext);
  context_rank_ = cx.mesh == nullptr ? 0 : cx.mesh->Rank(MeshAxis::kContext);
  whole_ = MakeLayout(model, batch.samples, batch.sequence_length);
  local_ = MakeLocalLayout(whole_, context_ranks_, context_rank_);
  documents_ = !batch.chunk_tokens.empty();
  Parts parts;
  for (const std::span<const int32_t> rows : {std::span(batch.inputs), std::span(batch.targets)}) {
    for (const RowSegment& s : SegmentsOf(whole_, context_ranks_, context_rank_, false)) {
      parts.push_back(rows.subspan(static_cast<size_t>(s.whole), static_cast<size_t>(s.rows)));
    }
  }
  parts.emplace_back(batch.document_first_chunk);
  parts.emplace_back(batch.chunk_tokens);
  int64_t size = 0;
  for (const std::span<const int32_t> part : parts) {
    size += static_cast<int64_t>(part.size());
  }
  if (values_.empty() || values_.size() != size) {
    values_ = cx.Empty({size}, DType::kI32);
  }
  if (cx.stream.dry) {
    dry_documents_.assign(batch.document_first_chunk.begin(), batch.document_first_chunk.end());
    dry_documents_.insert(dry_documents_.end(), batch.chunk_tokens.begin(), batch.chunk_tokens.end());
  }
  RunOp("upload batch", cx.stream, {values_.shape()}, NoWork, [&] {
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

MicroBatch BatchUpload::Slice(int32_t first, int32_t count) const {
  SummaryLayout layout = whole_;
  layout.sequences = count;
  if (documents_) {
    const int64_t chunks = whole_.chunks();
    const int32_t* documents =
        dry_documents_.empty() ? values_.As<int32_t>() + 2 * local_.text_rows() : dry_documents_.data();
    layout.document_first_chunk = documents + first * chunks;
    layout.chunk_tokens = layout.document_first_chunk + whole_.sequences * chunks;
  }
  const int64_t t = local_.text_tokens;
  return {.ids = values_.Rows(first * t, count * t),
          .targets = values_.Rows(local_.text_rows() + first * t, count * t),
          .layout = MakeLocalLayout(layout, context_ranks_, context_rank_)};
}

}  // namespace ksa
