#include "trainer/report/thin.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace ksa {
namespace {

TEST(ThinPoints, ShortCurvesStay) {
  EXPECT_EQ(ThinPoints({}, 4), std::vector<size_t>{});
  EXPECT_EQ(ThinPoints({3, 1, 2, 5}, 4), (std::vector<size_t>{0, 1, 2, 3}));
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(ThinPoints({nan, 1, infinity, 2, -infinity, nan}, 4), (std::vector<size_t>{1, 3})) << "finite ones alone";
}

// A long curve with one spike up and one down keeps both, and both ends.
TEST(ThinPoints, LongCurvesKeepTheirExtremes) {
  std::vector<double> values(100000);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(static_cast<double>(i) / 1000.0);
  }
  values[12345] = 50;
  values[77777] = -50;
  for (const size_t most : {4, 5, 10, 101, 1200}) {
    const std::vector<size_t> kept = ThinPoints(values, most);
    EXPECT_LE(kept.size(), most) << most;
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
    EXPECT_TRUE(std::adjacent_find(kept.begin(), kept.end()) == kept.end()) << "none twice";
    EXPECT_EQ(kept.front(), 0U);
    EXPECT_EQ(kept.back(), 99999U);
    EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), 12345U)) << most;
    EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), 77777U)) << most;
  }
  EXPECT_GT(ThinPoints(values, 1200).size(), 1000U);
  EXPECT_EQ(ThinPoints(std::vector<double>(100000, 1.0), 100).back(), 99999U) << "also of a constant";
}

}  // namespace
}  // namespace ksa
