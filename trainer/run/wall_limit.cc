#include "trainer/run/wall_limit.h"

#include <algorithm>

#include <fmt/core.h>

namespace ksa {
namespace {

constexpr double kSecondsAMinute = 60.0;
constexpr double kReserveShare = 0.05;  // of the limit, for the end of the process and what varies
constexpr double kMostReserve = 60.0;   // seconds

}  // namespace

WallLimit::WallLimit(std::optional<double> minutes, Clock::time_point start, double first_save_seconds)
    : minutes_(minutes), start_(start), save_seconds_(first_save_seconds) {}

void WallLimit::TookUpdate(double seconds) {
  update_seconds_ = std::max(update_seconds_, seconds);
}

void WallLimit::TookSave(double seconds) {
  save_seconds_ = saved_ ? std::max(save_seconds_, seconds) : seconds;
  saved_ = true;
}

bool WallLimit::Reached(Clock::time_point now) const {
  if (!minutes_) {
    return false;
  }
  const double limit = *minutes_ * kSecondsAMinute;
  const double reserve = std::min(kReserveShare * limit, kMostReserve);
  return std::chrono::duration<double>(now - start_).count() + update_seconds_ +
             (pending_ ? 2.0 : 1.0) * save_seconds_ + reserve >=
         limit;
}

std::string WallLimit::Reason() const {
  return fmt::format("run.max_wall_minutes, {}", minutes_.value_or(0.0));
}

}  // namespace ksa
