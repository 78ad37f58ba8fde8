// Checks of options that are numbers, with messages that say what was expected and what came.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

namespace ksa {

// A number from `least` to `most`, written with a point; neither nan nor infinite.
[[nodiscard]] inline CLI::Validator FiniteNumber(double least, double most = std::numeric_limits<double>::infinity()) {
  const std::string range = std::isinf(most) ? "" : fmt::format("{} to {}", least, most);
  const std::string expected =
      range.empty() ? fmt::format("a number, at least {}", least) : fmt::format("a number from {}", range);
  const auto check = [=](const std::string& text) {
    double value = std::numeric_limits<double>::quiet_NaN();
    const bool good = CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value >= least && value <= most;
    return good ? std::string() : fmt::format("expected {}, got '{}'", expected, text);
  };
  return {check, range};
}

// A number above 0, likewise.
[[nodiscard]] inline CLI::Validator PositiveNumber() {
  const auto check = [](const std::string& text) {
    double value = 0;
    return CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value > 0
               ? std::string()
               : fmt::format("expected a number above 0, got '{}'", text);
  };
  return {check, std::string()};
}

// A whole number from `least` to `most`, in plain digits.
[[nodiscard]] inline CLI::Validator WholeNumber(int64_t least, int64_t most = std::numeric_limits<int64_t>::max()) {
  const bool open = most == std::numeric_limits<int64_t>::max();
  const std::string range = open ? "" : fmt::format("{} to {}", least, most);
  const std::string expected =
      open ? fmt::format("a whole number, at least {}", least) : fmt::format("a whole number from {}", range);
  const auto check = [=](const std::string& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return !text.empty() && error == std::errc() && end == text.data() + text.size() && value >= least && value <= most
               ? std::string()
               : fmt::format("expected {}, got '{}'", expected, text);
  };
  return {check, range};
}

}  // namespace ksa
