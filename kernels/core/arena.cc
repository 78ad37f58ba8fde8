#include "kernels/core/arena.h"

#include "kernels/core/error.h"

namespace ksa {
namespace {

[[noreturn]] void FailOutOfMemory(const Device& device, int64_t bytes, int64_t reserved) {
  constexpr double kMiB = 1 << 20;
  Fail(ExitCode::kOutOfMemory,
       "out of {}: {:.1f} MiB more on top of {:.1f} MiB of tensors; lower training.micro_batch_size or "
       "training.sequence_length, or set training.recompute: block",
       device.IsCpu() ? "memory" : "device memory",
       static_cast<double>(bytes) / kMiB,
       static_cast<double>(reserved) / kMiB);
}

}  // namespace

void* ImaginarySlabs::Take(int64_t bytes) {
  const int64_t slab = next_;
  next_ += RoundUpAllocation(bytes);
  return reinterpret_cast<void*>(slab);  // NOLINT: an address that is never read
}

ArenaAllocator::ArenaAllocator(SlabSource& source, int64_t first_slab) : source_(source), keeps_first_(first_slab > 0) {
  if (keeps_first_) {
    AddSlab(RoundUpAllocation(first_slab), RoundUpAllocation(first_slab));
  }
}

ArenaAllocator::~ArenaAllocator() {
  for (const Slab& slab : slabs_) {
    source_.Give(slab.data, slab.bytes);
  }
}

// A slab of `wanted` bytes or, when there are not so many, of `least`.
ArenaAllocator::Slab& ArenaAllocator::AddSlab(int64_t least, int64_t wanted) {
  Slab slab{.data = nullptr, .bytes = wanted, .free = {}};
  slab.free.reserve(2);
  slabs_.reserve(slabs_.size() + 1);  // from here on nothing throws while the slab is nobody's
  slab.data = static_cast<char*>(source_.Take(wanted));
  if (slab.data == nullptr && wanted > least) {
    slab.bytes = least;
    slab.data = static_cast<char*>(source_.Take(least));
  }
  if (slab.data == nullptr) {
    FailOutOfMemory(source_.device(), least, reserved_);
  }
  slab.free.push_back({slab.data, slab.bytes});
  reserved_ += slab.bytes;
  slabs_.push_back(std::move(slab));
  return slabs_.back();
}

char* ArenaAllocator::Cut(Slab& slab, int64_t size) {
  const auto found =
      std::find_if(slab.free.begin(), slab.free.end(), [size](const Block& block) { return block.bytes >= size; });
  if (found == slab.free.end()) {
    return nullptr;
  }
  const size_t at = static_cast<size_t>(found - slab.free.begin());
  const auto most = static_cast<size_t>(slab.live) + 2;
  if (slab.free.capacity() < most) {
    slab.free.reserve(2 * most);
  }
  Block& block = slab.free[at];
  char* data = block.data;
  block.data += size;
  block.bytes -= size;
  if (block.bytes == 0) {
    slab.free.erase(slab.free.begin() + static_cast<std::ptrdiff_t>(at));
  }
  ++slab.live;
  return data;
}

void* ArenaAllocator::Allocate(int64_t bytes) {
  KSA_CHECK(bytes >= 0, "cannot allocate {} bytes", bytes);
  const int64_t size = RoundUpAllocation(bytes);
  if (handed_out_ - last_sweep_ > kIdleTurns * reserved_) {
    GiveBackIdle();
  }
  char* data = nullptr;
  size_t at = 0;
  for (; at < slabs_.size() && data == nullptr; ++at) {
    data = Cut(slabs_[at], size);
  }
  if (data == nullptr) {
    data = Cut(AddSlab(size, source_.SlabBytes(size, reserved_)), size);
    at = slabs_.size();
  }
  Slab& slab = slabs_[at - 1];
  handed_out_ += size;
  slab.last_use = handed_out_;
  if (at == 1) {
    extent_ = std::max<int64_t>(extent_, data + size - slab.data);
  }
  CountTaken(size);
  return data;
}

void ArenaAllocator::Free(void* data, int64_t bytes) noexcept {
  const int64_t size = RoundUpAllocation(bytes);
  CountGiven(size);
  auto* block = static_cast<char*>(data);
  const auto slab = std::find_if(slabs_.begin(), slabs_.end(), [block](const Slab& candidate) {
    return block >= candidate.data && block < candidate.data + candidate.bytes;
  });
  --slab->live;
  std::vector<Block>& free = slab->free;
  const auto next = std::lower_bound(
      free.begin(), free.end(), block, [](const Block& one, const char* other) { return one.data < other; });
  const bool joins_next = next != free.end() && block + size == next->data;
  if (next != free.begin()) {
    const auto previous = std::prev(next);
    if (previous->data + previous->bytes == block) {
      previous->bytes += size;
      if (joins_next) {
        previous->bytes += next->bytes;
        free.erase(next);
      }
      return;
    }
  }
  if (joins_next) {
    next->data = block;
    next->bytes += size;
    return;
  }
  free.insert(next, {block, size});
}

void ArenaAllocator::GiveBackIdle() {
  if (source_.takes_back()) {
    const auto give_idle = [this](const Slab& slab) {
      const bool idle = slab.live == 0 && slab.last_use <= last_sweep_;
      if (idle) {
        source_.Give(slab.data, slab.bytes);
        reserved_ -= slab.bytes;
      }
      return idle;
    };
    slabs_.erase(std::remove_if(slabs_.begin() + (keeps_first_ ? 1 : 0), slabs_.end(), give_idle), slabs_.end());
  }
  last_sweep_ = handed_out_;
}

}  // namespace ksa
