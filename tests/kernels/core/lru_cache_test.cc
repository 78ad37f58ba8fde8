#include "kernels/core/lru_cache.h"

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/warning.h"

namespace ksa {
namespace {

TEST(LruCacheTest, DropsWhatWasUnusedForLongest) {
  LruCache<std::string, int> cache(2);
  EXPECT_EQ(cache.Find("a"), nullptr);
  cache.Insert("a", 1);
  EXPECT_FALSE(cache.full());
  cache.Insert("b", 2);
  EXPECT_TRUE(cache.full());
  ASSERT_NE(cache.Find("a"), nullptr);
  EXPECT_EQ(cache.Insert("c", 3), 3) << "b goes: a was used since";
  EXPECT_EQ(cache.size(), 2U);
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_EQ(*cache.Find("a"), 1);
  EXPECT_EQ(*cache.Find("c"), 3);
  EXPECT_THROW(cache.Insert("c", 4), Error);
}

// Against a list that is searched.
TEST(LruCacheTest, RandomUse) {
  std::mt19937 random(7);
  constexpr size_t kMost = 5;
  LruCache<int, std::unique_ptr<int>> cache(kMost);
  std::vector<int> kept;  // the one used last at the end
  for (int i = 0; i < 2000; ++i) {
    const int key = static_cast<int>(random() % 9);
    const auto place = std::find(kept.begin(), kept.end(), key);
    std::unique_ptr<int>* found = cache.Find(key);
    ASSERT_EQ(found != nullptr, place != kept.end()) << "use " << i;
    if (found != nullptr) {
      ASSERT_EQ(**found, key);
      kept.erase(place);
    } else {
      cache.Insert(key, std::make_unique<int>(key));
      kept.erase(kept.begin(), kept.begin() + (kept.size() == kMost ? 1 : 0));
    }
    kept.push_back(key);
    ASSERT_EQ(cache.size(), kept.size());
  }
}

TEST(WarnOnceTest, SaysATextOnce) {
  ::testing::internal::CaptureStderr();
  WarnOnce("the test's first");
  WarnOnce("the test's second");
  WarnOnce("the test's first");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "ksa: warning: the test's first\nksa: warning: the test's second\n");
  EXPECT_EQ(WarningsSaid(), (std::vector<std::string>{"the test's first", "the test's second"}));
  EXPECT_EQ(WarningsSaid(1), std::vector<std::string>{"the test's second"});
  EXPECT_TRUE(WarningsSaid(2).empty());
}

}  // namespace
}  // namespace ksa
