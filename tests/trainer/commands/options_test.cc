#include <gtest/gtest.h>

#include "trainer/commands/arguments.h"
#include "trainer/commands/number_option.h"

namespace ksa {
namespace {

TEST(ArgumentsOf, AnEmptyValueStaysOne) {
  const std::vector<const char*> argv = {"ksa", "generate", "run", "--prompt=", "--seed=3", "--set", "a=", "-x=", "="};
  const std::vector<std::string> expected = {"generate", "run", "--prompt", "", "--seed=3", "--set", "a=", "-x=", "="};
  EXPECT_EQ(ArgumentsOf(static_cast<int>(argv.size()), argv.data()), expected);
}

// What the check says of a value; empty when it is good.
std::string Say(const CLI::Validator& check, std::string text) {
  return check(text);
}

TEST(NumberOption, SaysWhatWasExpected) {
  for (const char* good : {"0", "0.5", "1e-3", "7"}) {
    EXPECT_EQ(Say(FiniteNumber(0), good), "") << good;
  }
  for (const char* bad : {"nan", "inf", "-inf", "1e400", "-0.1", "0,5", "half", "", "1x"}) {
    EXPECT_EQ(Say(FiniteNumber(0), bad), fmt::format("expected a number, at least 0, got '{}'", bad));
  }
  EXPECT_EQ(Say(FiniteNumber(0.5, 1), "0.4"), "expected a number from 0.5 to 1, got '0.4'");
  EXPECT_EQ(Say(PositiveNumber(), "1e-9"), "");
  EXPECT_EQ(Say(PositiveNumber(), "0"), "expected a number above 0, got '0'");
  EXPECT_EQ(Say(PositiveNumber(), "nan"), "expected a number above 0, got 'nan'");
  EXPECT_EQ(Say(WholeNumber(1), "17"), "");
  EXPECT_EQ(Say(WholeNumber(1, 17), "17"), "");
  for (const char* bad : {"0", "18", "1e1"}) {
    EXPECT_EQ(Say(WholeNumber(1, 17), bad), fmt::format("expected a whole number from 1 to 17, got '{}'", bad));
  }
  for (const char* bad : {"0", "-3", "1.5", "1e3", "99999999999999999999", ""}) {
    EXPECT_EQ(Say(WholeNumber(1), bad), fmt::format("expected a whole number, at least 1, got '{}'", bad));
  }
}

}  // namespace
}  // namespace ksa
