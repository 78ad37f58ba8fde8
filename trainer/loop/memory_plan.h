// What a run will take of a GPU's memory, or a rank on the CPU of its host's, found by running one update on imaginary
// memory: the same code, the same requests in the same order, no GPU needed.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "kernels/core/gpu.h"
#include "trainer/config/config.h"

namespace ksa {

// Bytes. The arena holds everything but `libraries`.
struct MemoryPlan {
  int64_t weights = 0;  // compute type
  int64_t gradients = 0;
  int64_t master_weights = 0;  // 0: the weights themselves
  int64_t moments = 0;
  int64_t activations = 0;  // saved tensors, gradients of activations, logits, scratch: the rest, at the worst moment
  int64_t unused = 0;       // between blocks
  int64_t libraries = 0;    // workspace, buffers and code of libraries, outside of the arena

  [[nodiscard]] int64_t ArenaBytes() const {
    return weights + gradients + master_weights + moments + activations + unused;
  }

  [[nodiscard]] int64_t Total() const { return ArenaBytes() + libraries; }

  struct Segment {
    const char* key;   // "master_weights"
    const char* name;  // for people
    int64_t bytes;
  };

  [[nodiscard]] std::array<Segment, 7> Segments() const;

  [[nodiscard]] std::string Table() const;  // a line a segment, and the sum
};

// Of rank `rank` of `ranks`, on the CPU where run.device says so, else on a GPU.
[[nodiscard]] MemoryPlan PlanMemory(const Config& config, int ranks = 1, int rank = 0);

// Error(kOutOfMemory) with the table and what to change, when the plan does not fit into the GPU's free memory.
void CheckFits(const MemoryPlan& plan, const GpuInfo& gpu);

}  // namespace ksa
