#include "kernels/core/arena.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace ksa {

void* ImaginarySlabs::Take(int64_t bytes) {
  const int64_t slab = next_;
  next_ += RoundUpAllocation(bytes);
  return reinterpret_cast<void*>(slab);  // NOLINT: an address that is never read
}

ArenaAllocator::ArenaAllocator(SlabSource& source, int64_t first_slab) : source_(source) {
  if (first_slab > 0) {
    AddSlab(RoundUpAllocation(first_slab));
  }
}

ArenaAllocator::~ArenaAllocator() {
  for (char* slab : slabs_) {
    source_.Give(slab);
  }
}

void ArenaAllocator::AddSlab(int64_t bytes) {
  auto* slab = static_cast<char*>(source_.Take(bytes));
  if (slab == nullptr) {
    Fail(ExitCode::kOutOfMemory,
         "out of device memory: {:.2f} GiB more on top of {:.2f} GiB; lower training.micro_batch_size or "
         "training.sequence_length, or set training.recompute: block",
         static_cast<double>(bytes) / (1 << 30),
         static_cast<double>(reserved_) / (1 << 30));
  }
  if (slabs_.empty()) {
    first_slab_ = bytes;
  }
  slabs_.push_back(slab);
  free_.emplace(slab, bytes);
  reserved_ += bytes;
}

void* ArenaAllocator::Allocate(int64_t bytes) {
  KSA_CHECK(bytes >= 0, "cannot allocate {} bytes", bytes);
  const int64_t size = RoundUpAllocation(bytes);
  const auto fits = [size](const auto& block) { return block.second >= size; };
  auto found = std::find_if(free_.begin(), free_.end(), fits);
  if (found == free_.end()) {
    AddSlab(std::max(size, kSlabBytes));
    found = std::find_if(free_.begin(), free_.end(), fits);
  }
  char* block = found->first;
  const int64_t rest = found->second - size;
  free_.erase(found);
  if (rest > 0) {
    free_.emplace(block + size, rest);
  }
  if (block >= slabs_.front() && block < slabs_.front() + first_slab_) {
    extent_ = std::max<int64_t>(extent_, block + size - slabs_.front());
  }
  CountTaken(size);
  return block;
}

void ArenaAllocator::Free(void* data, int64_t bytes) noexcept {
  const int64_t size = RoundUpAllocation(bytes);
  CountGiven(size);
  auto at = free_.emplace(static_cast<char*>(data), size).first;
  // Slabs may lie side by side, but a block of two of them is none: the driver copies within one allocation alone.
  const auto starts_slab = [this](char* block) {
    return std::find(slabs_.begin(), slabs_.end(), block) != slabs_.end();
  };
  const auto next = std::next(at);
  if (next != free_.end() && at->first + at->second == next->first && !starts_slab(next->first)) {
    at->second += next->second;
    free_.erase(next);
  }
  if (at != free_.begin()) {
    const auto previous = std::prev(at);
    if (previous->first + previous->second == at->first && !starts_slab(at->first)) {
      previous->second += at->second;
      free_.erase(at);
    }
  }
}

}  // namespace ksa
