#include "data/tools/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include <fmt/core.h>

namespace ksa {

namespace {

std::string Duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::ceil(seconds));
  return whole < 120    ? fmt::format("{} s", whole)
         : whole < 7200 ? fmt::format("{}m{:02d}s", whole / 60, whole % 60)
                        : fmt::format("{}h{:02d}m", whole / 3600, whole / 60 % 60);
}

}  // namespace

ProgressBar::ProgressBar(std::string label, int64_t total, int64_t before)
    : label_(std::move(label)),
      total_(total),
      before_(before),
      visible_(isatty(STDERR_FILENO) == 1),
      line_(stderr),
      begin_(Clock::now()),
      shown_(begin_) {}

ProgressBar::~ProgressBar() {
  line_.Clear();
}

void ProgressBar::Show(int64_t done) {
  const auto interval = visible_ ? std::chrono::milliseconds(100) : std::chrono::minutes(1);
  const Clock::time_point now = Clock::now();
  if (now - shown_ < interval || total_ <= 0) {
    return;
  }
  shown_ = now;
  const double share = static_cast<double>(done) / static_cast<double>(total_);
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const double speed = std::max(1.0, static_cast<double>(done - before_)) / seconds;
  const std::string rate = fmt::format("{:.1f} MB/s", speed / 1e6);
  const std::string eta = "eta " + Duration(static_cast<double>(total_ - done) / speed);
  if (!visible_) {
    fmt::print(stderr,
               "{}: {:.0f}% of {:.1f} GB, {}, {}\n",
               label_,
               100 * share,
               static_cast<double>(total_) / 1e9,
               rate,
               eta);
    return;
  }
  const std::string text = FormatBar(
      share, {{fmt::format("{:3.0f}%", std::floor(100 * share)), 0}, {label_, 2}, {rate, 3}, {eta, 1}}, line_.Width());
  line_.Show(text, text);
}

}  // namespace ksa
