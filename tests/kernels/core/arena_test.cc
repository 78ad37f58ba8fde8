// The arena: blocks do not overlap, freed memory is found again, and a plan's extent is enough for the real run.
#include "kernels/core/arena.h"

#include <cstdlib>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// Host memory, of which there is only so much.
class LimitedSlabs final : public SlabSource {
 public:
  explicit LimitedSlabs(int64_t limit) : left_(limit) {}

  [[nodiscard]] Device device() const override { return {}; }

  [[nodiscard]] void* Take(int64_t bytes) override {
    if (bytes > left_) {
      return nullptr;
    }
    left_ -= bytes;
    ++taken_;
    return std::aligned_alloc(512, static_cast<size_t>(bytes));
  }

  void Give(void* slab) noexcept override {
    ++given_;
    std::free(slab);
  }

  [[nodiscard]] int taken() const { return taken_; }

  [[nodiscard]] int given() const { return given_; }

 private:
  int64_t left_;
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

}  // namespace
}  // namespace ksa
