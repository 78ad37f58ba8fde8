// Where colours are used, and what they are made of.
#include "trainer/observe/color.h"

#include <unistd.h>

#include <cstdlib>

#include <gtest/gtest.h>
#include <pty.h>

namespace ksa {
namespace {

// A terminal's descriptor, and an environment in which it has colours.
class Color : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(openpty(&master_, &terminal_, nullptr, nullptr, nullptr), 0);
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    unsetenv("CLICOLOR_FORCE");
  }

  void TearDown() override {
    close(terminal_);
    close(master_);
    unsetenv("NO_COLOR");
    unsetenv("CLICOLOR_FORCE");
  }

  int master_ = -1;
  int terminal_ = -1;
};

TEST_F(Color, IsForTerminals) {
  EXPECT_TRUE(UsesColor(ColorChoice::kAuto, terminal_));
  int ends[2] = {};
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_FALSE(UsesColor(ColorChoice::kAuto, ends[1]));
  EXPECT_TRUE(UsesColor(ColorChoice::kAlways, ends[1]));
  EXPECT_FALSE(UsesColor(ColorChoice::kNever, terminal_));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(Color, HonoursNoColorUnlessItIsAskedFor) {
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(UsesColor(ColorChoice::kAuto, terminal_));
  EXPECT_TRUE(UsesColor(ColorChoice::kAlways, terminal_));
  setenv("NO_COLOR", "", 1);  // no-color.org: present and not empty
  EXPECT_TRUE(UsesColor(ColorChoice::kAuto, terminal_));
}

// A choice of the command line reaches programs that are started, through the environment.
TEST_F(Color, IsHandedDown) {
  int ends[2] = {};
  ASSERT_EQ(pipe(ends), 0);
  HandColorDown(ColorChoice::kNever);
  EXPECT_FALSE(UsesColor(ColorChoice::kAuto, terminal_));
  HandColorDown(ColorChoice::kAlways);
  EXPECT_TRUE(UsesColor(ColorChoice::kAuto, ends[1]));
  HandColorDown(ColorChoice::kAuto);
  EXPECT_TRUE(UsesColor(ColorChoice::kAuto, ends[1]));
  setenv("CLICOLOR_FORCE", "0", 1);
  EXPECT_FALSE(UsesColor(ColorChoice::kAuto, ends[1]));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(Color, IsNotForADumbTerminal) {
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(UsesColor(ColorChoice::kAuto, terminal_));
}

TEST(Paint, LeavesTheTextWhereThereAreNoColors) {
  EXPECT_EQ(Paint(Style::kWarning, "careful", false), "careful");
  EXPECT_EQ(Paint(Style::kPlain, "text", true), "text");
  EXPECT_EQ(Paint(Style::kStrong, "text", true), "\x1b[1mtext\x1b[0m");
}

}  // namespace
}  // namespace ksa
