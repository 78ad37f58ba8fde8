// Loss by position in bands, relative to the text window.
#include "trainer/evaluate/position_bands.h"

#include <vector>

#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"

namespace ksa {
namespace {

std::optional<int64_t> WindowWith(const std::string& attention) {
  return TextWindow(ParseConfig(testing::kBase, "t.yaml", {"model.attention=" + attention}).config.model);
}

TEST(TextWindow, IsTheSmallestOfTheLayers) {
  EXPECT_EQ(WindowWith("{pattern: [ksa], ksa: {chunk_size: 8, window_chunks: 3}}"), 24);
  EXPECT_EQ(WindowWith("{pattern: [ksa, full], ksa: {chunk_size: 4, window_chunks: 5}}"), 20);
  EXPECT_EQ(WindowWith("{pattern: [ksa, swa], ksa: {chunk_size: 4, window_chunks: 5}, swa: {window: 17}}"), 17);
  EXPECT_EQ(WindowWith("{pattern: [sca], sca: {chunk_size: 8, window_chunks: 2}}"), 16);
  EXPECT_EQ(WindowWith("{pattern: [{kind: ksa, window_chunks: 6}, ksa], ksa: {chunk_size: 4, window_chunks: 9}}"), 24);
  EXPECT_EQ(WindowWith("{pattern: [full]}"), std::nullopt);
  EXPECT_EQ(WindowWith("{pattern: [ksa], ksa: {chunk_size: 8, window_chunks: 0}}"), std::nullopt)
      << "the own chunk alone is no window to measure by";
}

// The loss at position i is i, of one sample.
EvaluationSums Ramp(int32_t positions) {
  EvaluationSums sums(positions, 1);
  for (int32_t i = 0; i < positions; ++i) {
    sums.AddTarget(0, i, i);
  }
  return sums;
}

void ExpectBands(int32_t positions, std::optional<int64_t> window, const std::vector<int64_t>& begins) {
  const std::vector<PositionBand> bands = BandsOf(Ramp(positions), window);
  ASSERT_EQ(bands.size(), begins.size());
  for (size_t i = 0; i < bands.size(); ++i) {
    const int64_t last = (i + 1 < begins.size() ? begins[i + 1] : positions) - 1;
    EXPECT_EQ(bands[i].first, begins[i]);
    EXPECT_EQ(bands[i].last, last);
    EXPECT_EQ(bands[i].targets, static_cast<double>(last - begins[i] + 1));
    EXPECT_EQ(bands[i].loss, static_cast<double>(begins[i] + last) / 2) << "the mean over the band";
  }
}

TEST(PositionBands, EndAtTheWindowAndItsMultiples) {
  ExpectBands(1024, 64, {0, 1, 4, 16, 64, 128, 256, 512});
  ExpectBands(1000, 100, {0, 1, 4, 16, 64, 100, 200, 400, 800});
  ExpectBands(50, 64, {0, 1, 4, 16});
  ExpectBands(113, 1, {0, 1, 2, 4, 8, 16, 32, 64});
  ExpectBands(1, 8, {0});
}

TEST(PositionBands, WithoutAWindowGrowFourfold) {
  ExpectBands(1024, std::nullopt, {0, 1, 4, 16, 64, 256});
  ExpectBands(2, std::nullopt, {0, 1});
}

TEST(PositionBands, PositionsWithoutTargetsHaveNoLoss) {
  EvaluationSums sums(8, 1);
  sums.AddTarget(0, 0, 3);
  const std::string text = RenderBands(sums, 4);
  EXPECT_NE(text.find("3.0000"), std::string::npos) << text;
  EXPECT_NE(text.find("4-7"), std::string::npos) << text;
  EXPECT_NE(text.find("1-2x"), std::string::npos) << text;
  EXPECT_EQ(RenderBands(sums, std::nullopt).find("window"), std::string::npos);
}

}  // namespace
}  // namespace ksa
