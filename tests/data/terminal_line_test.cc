// Lines that fit a terminal of any width, and leave nothing behind.
#include "data/tools/terminal_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>

#include <gtest/gtest.h>
#include <pty.h>

namespace ksa {
namespace {

const std::vector<LinePart> kParts = {{" 50%", 0}, {"caf\xc3\xa9", 2}, {"", 1}, {"eta 5 s", 1}};

TEST(FormatBar, LeavesOutWholeParts) {
  const std::vector<std::pair<int, std::string>> expected = {
      {200, "[" + std::string(20, '#') + std::string(20, '.') + "]  50% | caf\xc3\xa9 | eta 5 s"},
      {32, "[####....]  50% | caf\xc3\xa9 | eta 5 s"},
      {31, " 50% | caf\xc3\xa9 | eta 5 s"},
      {21, " 50% | caf\xc3\xa9 | eta 5 s"},
      {20, " 50% | eta 5 s"},
      {13, " 50%"},
      {2, " 5"},
      {0, ""},
      {-1, ""}};
  for (const auto& [width, text] : expected) {
    EXPECT_EQ(FormatBar(0.5, kParts, width), text) << width;
  }
  EXPECT_EQ(FormatBar(2.0, {{"x", 0}}, 20), "[################] x");
  EXPECT_EQ(FormatBar(-1.0, {{"x", 0}}, 20), "[................] x");
}

TEST(ColumnsOf, CountsCharacters) {
  EXPECT_EQ(ColumnsOf(""), 0U);
  EXPECT_EQ(ColumnsOf("caf\xc3\xa9"), 4U);
}

// A terminal of which the other side is read back.
class Terminal {
 public:
  Terminal() {
    EXPECT_EQ(openpty(&master_, &terminal_, nullptr, nullptr, nullptr), 0);
    file_ = fdopen(terminal_, "w");
  }

  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  ~Terminal() {
    static_cast<void>(std::fclose(file_));
    close(master_);
  }

  [[nodiscard]] std::FILE* file() const { return file_; }

  void Resize(unsigned short columns) const {
    const winsize size = {.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    EXPECT_EQ(ioctl(terminal_, TIOCSWINSZ, &size), 0);
  }

  // What was printed since the last call; it was something.
  [[nodiscard]] std::string Read() const {
    std::array<char, 1024> buffer{};
    const ssize_t n = read(master_, buffer.data(), buffer.size());
    return {buffer.data(), n > 0 ? static_cast<size_t>(n) : 0};
  }

 private:
  int master_ = -1;
  int terminal_ = -1;
  std::FILE* file_ = nullptr;
};

TEST(TerminalLine, AsksForTheWidthEachTime) {
  const Terminal terminal;
  const TerminalLine line(terminal.file());
  EXPECT_EQ(line.Width(), 79);  // nobody has said
  terminal.Resize(120);
  EXPECT_EQ(line.Width(), 119);
  terminal.Resize(20);
  EXPECT_EQ(line.Width(), 19);
}

TEST(TerminalLine, ClearsWhatANarrowerWindowHasBroken) {
  const Terminal terminal;
  terminal.Resize(100);
  TerminalLine line(terminal.file());
  line.Show(std::string(99, 'x'), "painted");
  EXPECT_EQ(terminal.Read(), "painted");
  terminal.Resize(40);
  line.Show("y", "y");  // 99 columns were three rows of 40
  EXPECT_EQ(terminal.Read(), "\r\x1b[2A\x1b[Jy");
  line.Show(std::string(40, 'z'), "z");
  EXPECT_EQ(terminal.Read(), "\r\x1b[Kz");
  line.Clear();  // 40 columns are one row
  EXPECT_EQ(terminal.Read(), "\r\x1b[K");
  EXPECT_FALSE(line.shown());
  line.Clear();
  line.Show("a", "a");
  line.Keep();
  line.Keep();
  EXPECT_EQ(terminal.Read(), "a\r\n");
}

}  // namespace
}  // namespace ksa
