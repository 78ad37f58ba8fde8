// Samples that are spread evenly over a source.
#include "data/sampling/even_samples.h"

#include <gtest/gtest.h>

namespace ksa {
namespace {

// floor(j · there / taken) by counting: the last place whose share of the source does not exceed j of the taken ones.
int64_t ByCounting(int64_t j, int64_t taken, int64_t there) {
  int64_t place = 0;
  while ((place + 1) * taken <= j * there) {
    ++place;
  }
  return place;
}

TEST(EvenSamples, AreTheFloorsOfTheContractAndNeverTheSameTwice) {
  for (int64_t there = 1; there <= 60; ++there) {
    for (int64_t taken = 1; taken <= there; ++taken) {
      const EvenSamples samples = TakeEvenly(taken, there);
      ASSERT_EQ(samples.taken, taken);
      int64_t before = -1;
      for (int64_t j = 0; j < taken; ++j) {
        ASSERT_EQ(samples.At(j), ByCounting(j, taken, there)) << j << " of " << taken << " of " << there;
        ASSERT_GT(samples.At(j), before);
        if (j > 0) {
          ASSERT_LE(samples.At(j) - before, there / taken + 1);
          ASSERT_GE(samples.At(j) - before, there / taken);
        }
        before = samples.At(j);
      }
      ASSERT_EQ(samples.At(0), 0);
      ASSERT_LT(before, there);
      ASSERT_LE(there - before, there / taken + 1);
    }
  }
}

TEST(EvenSamples, TakeEveryOneWhereSoManyAreWanted) {
  for (const int64_t wanted : {113, 114, 1000000}) {
    const EvenSamples samples = TakeEvenly(wanted, 113);
    EXPECT_EQ(samples.taken, 113);
    for (int64_t j = 0; j < 113; ++j) {
      EXPECT_EQ(samples.At(j), j);
    }
  }
}

TEST(EvenSamples, ProductsMayExceed64Bits) {
  constexpr int64_t kHuge = int64_t{1} << 60;
  EXPECT_EQ(TakeEvenly(4, kHuge).At(3), 3 * (kHuge / 4));
  EXPECT_EQ(TakeEvenly(kHuge, kHuge).At(kHuge - 1), kHuge - 1);
}

}  // namespace
}  // namespace ksa
