#include "data/tools/progress_bar.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <utility>

#include <fmt/core.h>

namespace ksa {

ProgressBar::ProgressBar(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(total),
      visible_(isatty(STDERR_FILENO) == 1),
      line_(stderr),
      begin_(Clock::now()),
      shown_(begin_) {}

ProgressBar::~ProgressBar() {
  line_.Clear();
}

void ProgressBar::Show(int64_t done) {
  constexpr auto kInterval = std::chrono::milliseconds(100);
  const Clock::time_point now = Clock::now();
  if (!visible_ || now - shown_ < kInterval || total_ <= 0) {
    return;
  }
  shown_ = now;
  const double share = static_cast<double>(done) / static_cast<double>(total_);
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const double speed = static_cast<double>(done) / seconds;
  const std::string text = FormatBar(share,
                                     {{fmt::format("{:3.0f}%", std::floor(100 * share)), 0},
                                      {label_, 2},
                                      {fmt::format("{:.1f} MB/s", speed / 1e6), 3},
                                      {fmt::format("eta {:.0f} s", static_cast<double>(total_ - done) / speed), 1}},
                                     line_.Width());
  line_.Show(text, text);
}

}  // namespace ksa
