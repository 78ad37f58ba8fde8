#include "data/tools/progress_bar.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include <fmt/core.h>

namespace ksa {

ProgressBar::ProgressBar(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(total),
      visible_(isatty(STDERR_FILENO) == 1),
      begin_(Clock::now()),
      shown_(begin_) {}

ProgressBar::~ProgressBar() {
  if (visible_) {
    fmt::print(stderr, "\r\x1b[K");
    static_cast<void>(std::fflush(stderr));
  }
}

void ProgressBar::Show(int64_t done) {
  constexpr auto kInterval = std::chrono::milliseconds(100);
  constexpr int kWidth = 30;
  const Clock::time_point now = Clock::now();
  if (!visible_ || now - shown_ < kInterval || total_ <= 0) {
    return;
  }
  shown_ = now;
  const double share = static_cast<double>(done) / static_cast<double>(total_);
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const double speed = static_cast<double>(done) / seconds;
  const auto filled = static_cast<size_t>(share * kWidth);
  fmt::print(stderr,
             "\r{} [{}{}] {:5.1f} % | {:.1f} MB/s | eta {:.0f} s\x1b[K",
             label_,
             std::string(filled, '#'),
             std::string(static_cast<size_t>(kWidth) - std::min<size_t>(filled, kWidth), '.'),
             100 * share,
             speed / 1e6,
             static_cast<double>(total_ - done) / speed);
  static_cast<void>(std::fflush(stderr));
}

}  // namespace ksa
