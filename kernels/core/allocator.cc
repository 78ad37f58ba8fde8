#include "kernels/core/allocator.h"

#include <algorithm>
#include <cstdlib>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int64_t kGranularity = 512;
constexpr size_t kAlignment = 64;

int64_t RoundUp(int64_t bytes) {
  return std::max<int64_t>(1, (bytes + kGranularity - 1) / kGranularity) * kGranularity;
}

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
  const int64_t size = RoundUp(bytes);
  use_.current += size;
  use_.peak = std::max(use_.peak, use_.current);
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
  const int64_t size = RoundUp(bytes);
  use_.current -= size;
  bins_[size].push_back(data);
}

}  // namespace ksa
