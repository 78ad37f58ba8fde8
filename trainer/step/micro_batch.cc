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

// Of what is here, and by sample.
void BatchUpload::FindTargets(const Batch& batch) {
  target_rows_.clear();
  target_ids_.clear();
  first_target_.assign(1, 0);
  const std::vector<RowSegment> segments = SegmentsOf(whole_, context_ranks_, context_rank_, false);
  int64_t row = 0;
  for (const RowSegment& s : segments) {
    for (int64_t i = 0; i < s.rows; ++i, ++row) {
      const int32_t target = batch.targets[static_cast<size_t>(s.whole + i)];
      if (target >= 0) {
        target_rows_.push_back(static_cast<int32_t>(row));
        target_ids_.push_back(target);
      }
      if ((row + 1) % local_.text_tokens == 0) {
        first_target_.push_back(static_cast<int64_t>(target_rows_.size()));
      }
    }
  }
}

void BatchUpload::Load(const ExecContext& cx, const ModelConfig& model, const Batch& batch) {
  context_ranks_ = cx.mesh == nullptr ? 1 : cx.mesh->Size(MeshAxis::kContext);
  context_rank_ = cx.mesh == nullptr ? 0 : cx.mesh->Rank(MeshAxis::kContext);
  whole_ = MakeLayout(model, batch.samples, batch.sequence_length);
  local_ = MakeLocalLayout(whole_, context_ranks_, context_rank_);
  documents_ = !batch.chunk_tokens.empty();
  FindTargets(batch);
  Parts parts;
  for (const RowSegment& s : SegmentsOf(whole_, context_ranks_, context_rank_, false)) {
    parts.push_back(std::span(batch.inputs).subspan(static_cast<size_t>(s.whole), static_cast<size_t>(s.rows)));
  }
  parts.emplace_back(batch.document_first_chunk);
  parts.emplace_back(batch.chunk_tokens);
  parts.emplace_back(target_ids_);
  int64_t most =
      static_cast<int64_t>(batch.document_first_chunk.size() + batch.chunk_tokens.size()) + 2 * local_.text_rows();
  if (SelectsRows()) {
    parts.emplace_back(target_rows_);
    most += local_.text_rows();
  }
  if (values_.empty() || values_.size() != most) {
    values_ = cx.Empty({most}, DType::kI32);
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
  int64_t size = 0;
  for (const std::span<const int32_t> part : parts) {
    size += static_cast<int64_t>(part.size());
  }
  if (staging_ == nullptr || staging_->bytes() < values_.view().bytes()) {
    staging_ = std::make_unique<PinnedMemory>(std::max<int64_t>(1, values_.view().bytes()), stream);
  }
  Concatenate(parts, static_cast<int32_t*>(staging_->data()));
  CopyFromHost({staging_->data(), DType::kI32, {}, {size}}, values_.Rows(0, size), stream);
  copied_.Record(stream);
}

MicroBatch BatchUpload::Slice(int32_t first, int32_t count) const {
  SummaryLayout layout = whole_;
  layout.sequences = count;
  const int64_t chunks = documents_ ? whole_.chunks() : 0;
  if (documents_) {
    const int32_t* documents =
        dry_documents_.empty() ? values_.As<int32_t>() + local_.text_rows() : dry_documents_.data();
    layout.document_first_chunk = documents + first * chunks;
    layout.chunk_tokens = layout.document_first_chunk + whole_.sequences * chunks;
  }
  const int64_t t = local_.text_tokens;
  const int64_t targets = local_.text_rows() + 2 * whole_.sequences * chunks;  // where they begin
  const int64_t begin = first_target_[static_cast<size_t>(first)];
  const int64_t size = first_target_[static_cast<size_t>(first + count)] - begin;
  MicroBatch micro;
  micro.ids = values_.Rows(first * t, count * t);
  micro.targets.ids = values_.Rows(targets + begin, size);
  micro.targets.first_row = first * t;
  micro.targets.text_rows = count * t;
  if (SelectsRows()) {
    micro.targets.rows = values_.Rows(targets + static_cast<int64_t>(target_rows_.size()) + begin, size);
  }
  micro.layout = MakeLocalLayout(layout, context_ranks_, context_rank_);
  micro.target_rows = std::span(target_rows_).subspan(static_cast<size_t>(begin), static_cast<size_t>(size));
  return micro;
}

}  // namespace ksa
