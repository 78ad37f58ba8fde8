#include "trainer/observe/wrap.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace ksa {
namespace {

TEST(Wrap, BreaksAtSpacesAlone) {
  EXPECT_EQ(Wrap("one two three", 7), (std::vector<std::string>{"one two", "three"}));
  EXPECT_EQ(Wrap("a-word-that-is-longer b", 5), (std::vector<std::string>{"a-word-that-is-longer", "b"}));
  EXPECT_TRUE(Wrap("", 5).empty());
}

TEST(Wrap, CountsCharacters) {
  EXPECT_EQ(Wrap("größer als", 10), (std::vector<std::string>{"größer als"}));
}

TEST(Folded, IndentsWhatFollows) {
  EXPECT_EQ(Folded("one two three four", 11), "one two\n  three\n  four");
  EXPECT_EQ(Folded("one two", 7), "one two");
}

TEST(Folded, LeavesTablesAndCommands) {
  const std::string row = "validation  last=best      60    5.2973";
  EXPECT_EQ(Folded(row, 20), row);
  const std::string command = "  ksa eval runs/quickstart --json result.json";
  EXPECT_EQ(Folded(command, 20), command);
}

}  // namespace
}  // namespace ksa
