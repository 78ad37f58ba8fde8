// Command lines that a shell reads back as they were meant.
#include "trainer/observe/shell_words.h"

#include <array>
#include <cstdio>

#include <gtest/gtest.h>

namespace ksa {
namespace {

// The words that sh makes of a line, each followed by a newline.
std::string WordsOfShell(const std::string& line) {
  const std::string command = "printf '%s\\n' " + line;
  std::FILE* shell = popen(command.c_str(), "r");
  EXPECT_NE(shell, nullptr);
  std::string words;
  std::array<char, 256> buffer{};
  for (size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), shell)) > 0;) {
    words.append(buffer.data(), n);
  }
  EXPECT_EQ(pclose(shell), 0);
  return words;
}

TEST(ShellWords, PlainOnesStayPlain) {
  EXPECT_EQ(ShellLine({"build/release/ksa", "train", "a_b.yaml", "--set", "optimizer.lr=1e-3"}),
            "build/release/ksa train a_b.yaml --set optimizer.lr=1e-3");
}

TEST(ShellWords, AShellReadsThemBack) {
  const std::vector<std::string> words = {"",
                                          "two words",
                                          "it's",
                                          "'",
                                          "$HOME",
                                          "~/runs",
                                          "~",
                                          "=x",
                                          "a;b",
                                          "data.train=[{path: x, weight: 2}]",
                                          "*",
                                          "\"q\"",
                                          "back\\slash",
                                          "caf\xc3\xa9"};
  std::string expected;
  for (const std::string& word : words) {
    expected += word + "\n";
  }
  EXPECT_EQ(WordsOfShell(ShellLine(words)), expected);
}

}  // namespace
}  // namespace ksa
