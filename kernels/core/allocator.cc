#include "kernels/core/allocator.h"

#include <cstdlib>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

PoolAllocator::~PoolAllocator() {
  for (const auto& [size, blocks] : bins_) {
    for (void* block : blocks) {
      std::free(block);  // NOLINT(cppcoreguidelines-no-malloc): the one place that owns raw memory
    }
  }
}

void* PoolAllocator::Allocate(int64_t bytes) {
  KSA_CHECK(bytes >= 0, "cannot allocate {} bytes", bytes);
  const int64_t size = RoundUpAllocation(bytes);
  CountTaken(size);
  std::vector<void*>& bin = bins_[size];
  if (!bin.empty()) {
    void* block = bin.back();
    bin.pop_back();
    return block;
  }
  void* block = std::aligned_alloc(kAlignment, static_cast<size_t>(size));  // NOLINT(cppcoreguidelines-no-malloc)
  if (block == nullptr) {
    Fail(ExitCode::kOutOfMemory,
         "out of memory: {} bytes more on top of {} bytes of tensors; lower training.micro_batch_size or "
         "training.sequence_length, or set training.recompute: block",
         size,
         reserved_);
  }
  reserved_ += size;
  return block;
}

void PoolAllocator::Free(void* data, int64_t bytes) noexcept {
  const int64_t size = RoundUpAllocation(bytes);
  CountGiven(size);
  bins_[size].push_back(data);
}

}  // namespace ksa
