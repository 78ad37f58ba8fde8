// A batch of samples as the model takes them. Letters: n samples, T sequence length, C = ceil(T / k) chunks.
#pragma once

#include <cstdint>
#include <vector>

namespace ksa {

// Row i of a micro-batch that starts at sample s of the batch is row s + i here: the arrays are row-major and
// contiguous, so a micro-batch is a slice of them.
struct Batch {
  static constexpr int32_t kNoTarget = -1;

  int64_t first_sample = 0;  // number of the first sample: in the run, or among those that a validation takes
  int32_t samples = 0;       // n
  int32_t sequence_length = 0;
  int32_t chunks = 0;  // C

  std::vector<int32_t> inputs;   // [n, T] token ids; 0 in padding rows
  std::vector<int32_t> targets;  // [n, T] token ids, kNoTarget where a row has none

  // Only with document_mask (else empty): what SummaryLayout takes.
  std::vector<int32_t> document_first_chunk;  // [n, C] first chunk of the chunk's document
  std::vector<int32_t> chunk_tokens;          // [n, C] real tokens of the chunk

  std::vector<int32_t> source;  // [n] the training source of the sample, in the configuration's order; 0 in others

  int64_t target_count = 0;     // targets that are not kNoTarget
  int64_t dropped_tokens = 0;   // tokens of the samples' windows that found no row (document_mask); of samples·T
  int64_t corrupt_samples = 0;  // samples without targets because they touch a corrupt block
};

}  // namespace ksa
