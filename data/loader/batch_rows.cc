#include "data/loader/batch_rows.h"

#include <algorithm>
#include <vector>

namespace ksa {
namespace {

// The part of an array that belongs to sample `index`.
std::span<int32_t> Part(std::vector<int32_t>& array, int64_t index, int32_t length) {
  if (array.empty()) {
    return {};
  }
  return std::span(array).subspan(static_cast<size_t>(index) * static_cast<size_t>(length),
                                  static_cast<size_t>(length));
}

}  // namespace

void ResizeBatch(int64_t first, int64_t count, const DatasetConfig& config, Batch& batch) {
  batch.first_sample = first;
  batch.samples = static_cast<int32_t>(count);
  batch.sequence_length = config.sequence_length;
  batch.chunks = (config.sequence_length + config.chunk_size - 1) / config.chunk_size;
  const auto rows = static_cast<size_t>(count) * static_cast<size_t>(config.sequence_length);
  batch.inputs.resize(rows);
  batch.targets.resize(rows);
  const size_t chunks = config.document_mask ? static_cast<size_t>(count) * static_cast<size_t>(batch.chunks) : 0;
  batch.document_first_chunk.resize(chunks);
  batch.chunk_tokens.resize(chunks);
  batch.source.assign(static_cast<size_t>(count), 0);
  batch.target_count = 0;
  batch.dropped_tokens = 0;
  batch.corrupt_samples = 0;
}

std::span<int32_t> InputsOf(Batch& batch, int64_t index) {
  return Part(batch.inputs, index, batch.sequence_length);
}

std::span<int32_t> TargetsOf(Batch& batch, int64_t index) {
  return Part(batch.targets, index, batch.sequence_length);
}

void FillOneDocument(const DatasetConfig& config, int64_t index, Batch& batch) {
  std::ranges::fill(InputsOf(batch, index), 0);
  std::ranges::fill(TargetsOf(batch, index), Batch::kNoTarget);
  std::ranges::fill(Part(batch.document_first_chunk, index, batch.chunks), 0);
  const std::span<int32_t> chunk_tokens = Part(batch.chunk_tokens, index, batch.chunks);
  std::ranges::fill(chunk_tokens, config.chunk_size);
  if (!chunk_tokens.empty()) {
    chunk_tokens.back() = config.sequence_length - (batch.chunks - 1) * config.chunk_size;
  }
}

FillResult FillRows(std::span<const int32_t> window,
                    std::span<const int64_t> starts,
                    const DatasetConfig& config,
                    int64_t index,
                    Batch& batch) {
  const std::span<int32_t> inputs = InputsOf(batch, index);
  const std::span<int32_t> targets = TargetsOf(batch, index);
  if (config.document_mask) {
    return FillDocumentRows(window,
                            starts,
                            config.chunk_size,
                            {inputs,
                             targets,
                             Part(batch.document_first_chunk, index, batch.chunks),
                             Part(batch.chunk_tokens, index, batch.chunks)});
  }
  std::copy(window.begin(), window.end() - 1, inputs.begin());
  std::copy(window.begin() + 1, window.end(), targets.begin());
  return {.targets = config.sequence_length, .dropped = 0};
}

}  // namespace ksa
