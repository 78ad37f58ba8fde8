// The arena: blocks do not overlap, freed memory is found again, a plan's extent is enough for the real run, and what
// nobody needs goes back.
#include "kernels/core/arena.h"

#include <cstdlib>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <malloc.h>

#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"

namespace ksa {
namespace {

// Host memory, of which there is only so much.
class LimitedSlabs final : public SlabSource {
 public:
  explicit LimitedSlabs(int64_t limit, bool takes_back = false) : left_(limit), takes_back_(takes_back) {}

  [[nodiscard]] Device device() const override { return {}; }

  [[nodiscard]] void* Take(int64_t bytes) override {
    if (bytes > left_) {
      return nullptr;
    }
    left_ -= bytes;
    ++taken_;
    return std::aligned_alloc(512, static_cast<size_t>(bytes));
  }

  void Give(void* slab, int64_t bytes) noexcept override {
    ++given_;
    left_ += bytes;
    std::free(slab);
  }

  [[nodiscard]] bool takes_back() const override { return takes_back_; }

  [[nodiscard]] int taken() const { return taken_; }

  [[nodiscard]] int given() const { return given_; }

 private:
  int64_t left_;
  bool takes_back_;
  int taken_ = 0;
  int given_ = 0;
};

struct Block {
  char* data = nullptr;
  int64_t bytes = 0;
};

// A random but repeatable history of requests; `check` sees every block as it is handed out.
template <typename Check>
void Churn(Allocator& arena, const Check& check) {
  std::mt19937 random(7);
  std::vector<Block> live;
  for (int i = 0; i < 2000; ++i) {
    if (live.size() > 40 || (!live.empty() && random() % 2 == 0)) {
      const size_t at = random() % live.size();
      arena.Free(live[at].data, live[at].bytes);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
      continue;
    }
    const int64_t bytes = random() % 3 == 0 ? random() % 100000 : random() % 700;
    live.push_back({static_cast<char*>(arena.Allocate(bytes)), bytes});
    check(live);
  }
  for (const Block& block : live) {
    arena.Free(block.data, block.bytes);
  }
}

TEST(Arena, BlocksDoNotOverlapAndAreAligned) {
  LimitedSlabs slabs(int64_t{1} << 30);
  ArenaAllocator arena(slabs, 8 << 20);
  Churn(arena, [](const std::vector<Block>& live) {
    std::map<char*, int64_t> places;
    for (const Block& block : live) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data) % 512, 0U);
      places[block.data] = RoundUpAllocation(block.bytes);
    }
    ASSERT_EQ(places.size(), live.size());
    const char* end = nullptr;
    for (const auto& [data, bytes] : places) {
      EXPECT_GE(data, end);
      end = data + bytes;
    }
  });
  EXPECT_EQ(arena.use().current, 0);
  EXPECT_EQ(slabs.taken(), 1);
}

TEST(Arena, FreedMemoryIsOnePieceAgain) {
  LimitedSlabs slabs(1 << 20);
  ArenaAllocator arena(slabs, 1 << 20);
  Churn(arena, [](const std::vector<Block>& /*live*/) {});
  void* all = arena.Allocate(1 << 20);
  EXPECT_NE(all, nullptr);
  arena.Free(all, 1 << 20);
}

TEST(Arena, ThePlansExtentIsEnoughToTheByte) {
  ImaginarySlabs imaginary({DeviceKind::kCuda, 0});
  ArenaAllocator plan(imaginary, int64_t{1} << 50);
  std::vector<int64_t> planned;
  char* base = nullptr;
  const auto offsets = [&base](std::vector<int64_t>& into) {
    return [&base, &into](const std::vector<Block>& live) {
      base = base == nullptr ? live.back().data : base;
      into.push_back(live.back().data - base);
    };
  };
  Churn(plan, offsets(planned));
  EXPECT_GE(plan.extent(), plan.use().peak);

  LimitedSlabs slabs(plan.extent());
  ArenaAllocator real(slabs, plan.extent());
  std::vector<int64_t> used;
  base = nullptr;
  Churn(real, offsets(used));
  EXPECT_EQ(used, planned);
  EXPECT_EQ(real.extent(), plan.extent());
  EXPECT_EQ(real.reserved_bytes(), plan.extent());
}

TEST(Arena, GrowsAndGivesEverythingBack) {
  LimitedSlabs slabs(int64_t{1} << 30);
  {
    ArenaAllocator arena(slabs, 4096);
    void* small = arena.Allocate(4000);
    void* large = arena.Allocate(ArenaAllocator::kSlabBytes + 1);
    EXPECT_EQ(slabs.taken(), 2);
    EXPECT_EQ(arena.extent(), 4096);
    arena.Free(small, 4000);
    arena.Free(large, ArenaAllocator::kSlabBytes + 1);
  }
  EXPECT_EQ(slabs.given(), 2);
}

// Addresses of imaginary slabs follow each other, as those of a driver may.
TEST(Arena, NoBlockReachesOverTheBorderOfTwoSlabs) {
  ImaginarySlabs slabs({DeviceKind::kCuda, 0});
  constexpr int64_t kHalf = ArenaAllocator::kSlabBytes / 2;
  ArenaAllocator arena(slabs);
  std::vector<char*> halves;
  for (int i = 0; i < 4; ++i) {
    halves.push_back(static_cast<char*>(arena.Allocate(kHalf)));
  }
  for (const int i : {1, 2, 0, 3}) {  // both sides of the border, in either order
    arena.Free(halves[static_cast<size_t>(i)], kHalf);
  }
  auto* whole = static_cast<char*>(arena.Allocate(2 * kHalf));
  EXPECT_TRUE(whole == halves[0] || whole == halves[2]);
  auto* large = static_cast<char*>(arena.Allocate(3 * kHalf));
  EXPECT_TRUE(large < halves[0] || large >= halves[3] + kHalf) << "a block over two slabs";
}

TEST(Arena, AnEmptySourceIsOutOfMemory) {
  LimitedSlabs slabs(4096);
  ArenaAllocator arena(slabs, 4096);
  try {
    static_cast<void>(arena.Allocate(4097));
    FAIL() << "4097 bytes out of 4096";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kOutOfMemory);
  }
}

TEST(Arena, LessThanAWholeSlabWhereThereIsNotMore) {
  LimitedSlabs slabs(ArenaAllocator::kSlabBytes + 4096);
  ArenaAllocator arena(slabs);
  void* first = arena.Allocate(ArenaAllocator::kSlabBytes);
  void* second = arena.Allocate(4096);
  EXPECT_EQ(slabs.taken(), 2);
  EXPECT_EQ(arena.reserved_bytes(), ArenaAllocator::kSlabBytes + 4096);
  arena.Free(first, ArenaAllocator::kSlabBytes);
  arena.Free(second, 4096);
}

// Hands out so many bytes, 100 KiB at a time.
void Use(ArenaAllocator& arena, int64_t handed_out) {
  for (int64_t done = 0; done < handed_out; done += 100 << 10) {
    arena.Free(arena.Allocate(100 << 10), 100 << 10);
  }
}

TEST(Arena, AnIdleSlabGoesBackOnceItsPagesAreCheapToTouchAgain) {
  LimitedSlabs slabs(int64_t{4} << 30, true);
  ArenaAllocator arena(slabs);
  void* kept = arena.Allocate(1 << 20);
  arena.Free(arena.Allocate(ArenaAllocator::kSlabBytes), ArenaAllocator::kSlabBytes);
  EXPECT_EQ(slabs.taken(), 2);
  const int64_t turn = ArenaAllocator::kIdleTurns * arena.reserved_bytes();
  Use(arena, turn / 2);
  EXPECT_EQ(slabs.given(), 0);
  Use(arena, 2 * turn);
  EXPECT_EQ(slabs.given(), 1);
  EXPECT_EQ(arena.reserved_bytes(), ArenaAllocator::kSlabBytes);
  Use(arena, 2 * turn);
  EXPECT_EQ(slabs.given(), 1) << "a slab with a live block stays";
  arena.Free(kept, 1 << 20);
}

TEST(Arena, APlannedSlabAndADevicesSlabsStay) {
  for (const bool takes_back : {false, true}) {
    LimitedSlabs slabs(int64_t{2} << 30, takes_back);
    ArenaAllocator arena(slabs, 4096);  // a planned slab, into which nothing fits
    if (!takes_back) {
      arena.Free(arena.Allocate(ArenaAllocator::kSlabBytes + 1), ArenaAllocator::kSlabBytes + 1);
    }
    Use(arena, 4 * ArenaAllocator::kIdleTurns * 2 * ArenaAllocator::kSlabBytes);
    EXPECT_EQ(slabs.given(), 0);
  }
}

#ifndef __SANITIZE_ADDRESS__  // with it, every tensor has memory of its own

// A step of sizes that differ a little from one to the next, as documents make them.
void Step(Allocator& arena, std::mt19937& random, int64_t scale) {
  std::vector<Block> live;
  for (int i = 0; i < 60; ++i) {
    const int64_t bytes = scale * (i % 7 + 1) + random() % scale;
    live.push_back({static_cast<char*>(arena.Allocate(bytes)), bytes});
    if (i % 3 == 2) {
      arena.Free(live[live.size() - 2].data, live[live.size() - 2].bytes);
      live.erase(live.end() - 2);
    }
  }
  while (!live.empty()) {
    arena.Free(live.back().data, live.back().bytes);
    live.pop_back();
  }
}

// Exact sizes kept in bins would grow by the bytes of nearly every step.
TEST(HostAllocator, SizesThatNeverRepeatTakeNoMoreThanTheirPeak) {
  HostAllocator memory;
  std::mt19937 random(3);
  for (int step = 0; step < 400; ++step) {
    Step(memory, random, 300'000);
  }
  EXPECT_LT(memory.reserved_bytes(), 2 * memory.use().peak);
  EXPECT_EQ(memory.use().current, 0);
}

TEST(HostAllocator, GivesBackWhatALargerTimeTook) {
  HostAllocator memory;
  std::mt19937 random(3);
  Step(memory, random, 3'000'000);
  const int64_t large = memory.reserved_bytes();
  for (int step = 0; step < 4000; ++step) {
    Step(memory, random, 300'000);
  }
  EXPECT_LT(memory.reserved_bytes(), large / 2);
}

TEST(HostAllocator, FreeTakesNothingFromTheSystem) {
  HostAllocator memory;
  std::vector<char*> blocks(5000);
  for (char*& block : blocks) {
    block = static_cast<char*>(memory.Allocate(600));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0U);
  }
  const size_t before = mallinfo2().uordblks;
  for (size_t i = 0; i < blocks.size(); i += 2) {  // no two that touch: as many free blocks as can be
    memory.Free(blocks[i], 600);
  }
  EXPECT_EQ(mallinfo2().uordblks, before);
  for (size_t i = 1; i < blocks.size(); i += 2) {
    memory.Free(blocks[i], 600);
  }
}

#else

TEST(HostAllocatorDeathTest, AddressSanitizerSeesTheEndsOfTensors) {
  HostAllocator memory;
  auto* block = static_cast<volatile char*>(memory.Allocate(600));
  EXPECT_DEATH(block[600] = 1, "heap-buffer-overflow");
  memory.Free(const_cast<char*>(block), 600);
  EXPECT_DEATH(block[0] = 1, "heap-use-after-free");
}

#endif

}  // namespace
}  // namespace ksa
