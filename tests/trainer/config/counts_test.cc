// Counts of tokens and updates in all their spellings.
#include "trainer/config/counts.h"

#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"

namespace ksa {
namespace {

TEST(TokenCount, Spellings) {
  const std::pair<const char*, int64_t> good[] = {{"0", 0},
                                                  {"7", 7},
                                                  {"1000000", 1000000},
                                                  {"1_000_000", 1000000},
                                                  {"12_345", 12345},
                                                  {"1e9", 1000000000},
                                                  {"2.5e9", 2500000000},
                                                  {"1E+3", 1000},
                                                  {"1.50e1", 15},
                                                  {"100G", 100000000000},
                                                  {"1.5T", 1500000000000},
                                                  {"2K", 2000},
                                                  {"1M", 1000000}};
  for (const auto& [text, count] : good) {
    EXPECT_EQ(ParseTokenCount(text), count) << text;
  }
  for (const char* text : {"",        "-1",
                           "+1",      "1.5",
                           "1e-3",    "1.55e1",
                           "e9",      "1e",
                           "G",       "1g",
                           "1 000",   "1,000",
                           "1_0_0",   "1000_000",
                           "1_000_",  "_1",
                           "0x10",    "01",
                           "1e19",    "1e99999999999",
                           "nan",     "inf",
                           "100GB",   "1_000K",
                           "1.5_000", "9223372036854775807"}) {
    EXPECT_FALSE(ParseTokenCount(text).has_value()) << text;
  }
}

TEST(StepCountTest, PercentagesRoundDown) {
  const auto of = [](const char* text, int64_t max_steps) {
    const std::vector<std::string> sets = {fmt::format("training.max_steps={}", max_steps),
                                           fmt::format("schedule.warmup_steps={}", text),
                                           "schedule.decay_steps=0"};
    return ParseConfig(testing::kBase, "t.yaml", sets).config.schedule.warmup_steps;
  };
  EXPECT_EQ(of("5%", 2000), 100);
  EXPECT_EQ(of("5%", 199), 9);
  EXPECT_EQ(of("2.5%", 1000), 25);
  EXPECT_EQ(of("0.000001%", 100000000), 1);
  EXPECT_EQ(of("0.000001%", 99999999), 0);
  EXPECT_EQ(of("100%", 3), 3);
  EXPECT_EQ(of("33.333333%", int64_t{1} << 40), 366503872260);
  EXPECT_EQ(of("17", 2000), 17);
}

}  // namespace
}  // namespace ksa
