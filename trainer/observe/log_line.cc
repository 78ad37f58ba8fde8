#include "trainer/observe/log_line.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>

#include <fmt/format.h>

namespace ksa {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

std::string FormatMfu(const StepReport& report) {
  return report.mfu ? fmt::format("{:.1f}%", 100.0 * *report.mfu) : "n/a";
}

}  // namespace

std::string FormatCount(double count) {
  constexpr std::array<std::string_view, 5> kUnits{"", "K", "M", "B", "T"};
  if (!std::isfinite(count)) {
    return "n/a";
  }
  size_t unit = 0;
  // Rounded before the comparison, so that 999 960 is 1.0M and not 1000.0K.
  while (unit + 1 < kUnits.size() && (unit == 0 ? std::round(count) : std::round(count * 10) / 10) >= 1000) {
    count /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f}", count) : fmt::format("{:.1f}{}", count, kUnits[unit]);
}

std::string FormatDuration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) {
    return "?";
  }
  const auto total = static_cast<int64_t>(std::llround(seconds));
  if (total < 60) {
    return fmt::format("{}s", total);
  }
  const int64_t minutes = total / 60;
  if (minutes < 60) {
    return fmt::format("{}m{:02d}s", minutes, total % 60);
  }
  const int64_t hours = minutes / 60;
  return hours < 24 ? fmt::format("{}h{:02d}m", hours, minutes % 60)
                    : fmt::format("{}d{:02d}h", hours / 24, hours % 24);
}

std::string FormatBytes(int64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (unit + 1 < kUnits.size() && std::round(value * 10) / 10 >= 1024) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string FormatLogLine(const StepReport& report) {
  return fmt::format(
      "step {:>6}/{} | tokens {} | loss {:.4f} | gnorm {:.3f} | lr {:.2e} | {:.1f} ms | {} tok/s | mfu {} | "
      "mem {:.1f}/{:.1f} GiB | wait data {:.1f} comm {:.1f} ms | eta {}",
      report.step,
      report.max_steps,
      FormatCount(static_cast<double>(report.tokens)),
      report.loss,
      report.grad_norm,
      report.lr,
      report.step_ms,
      FormatCount(report.tokens_per_second),
      FormatMfu(report),
      static_cast<double>(report.memory) / kGib,
      static_cast<double>(report.memory_total) / kGib,
      report.data_wait_ms,
      report.comm_wait_ms,
      FormatDuration(report.eta_seconds));
}

}  // namespace ksa
