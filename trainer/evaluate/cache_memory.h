// Whether the caches of a batch of sequences fit, before they are made.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/core/dtype.h"
#include "model/mixers/model_config.h"
#include "trainer/step/runtime.h"

namespace ksa {

// What decoding takes beside the weights, in bytes.
struct CacheMemory {
  int64_t sequences = 0;
  int64_t tokens = 0;      // of a sequence
  int64_t a_sequence = 0;  // its caches
  int64_t logits = 0;      // of a step, and the widest rows of a pass over the longest prompt
  int64_t free = 0;        // of the device or host
  std::string where;       // "NVIDIA H200", "this host"

  [[nodiscard]] int64_t Total() const { return sequences * a_sequence + logits; }
};

[[nodiscard]] CacheMemory PlanCaches(
    const ModelConfig& model, int64_t sequences, int64_t tokens, int64_t longest_prompt, DType dtype);

// Error(kOutOfMemory) with the table and what to change. What earlier tensors left to the runtime's memory is free. As
// many ranks as `ranks_of_host` take as much of a host's memory; each has a GPU of its own.
void CheckFits(CacheMemory memory, Runtime& runtime, int ranks_of_host = 1);

}  // namespace ksa
