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
  const std::string expected = std::isinf(most) ? fmt::format("a number, at least {}", least)
                                                : fmt::format("a number from {} to {}", least, most);
  const auto check = [=](const std::string& text) {
    double value = std::numeric_limits<double>::quiet_NaN();
    const bool good = CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value >= least && value <= most;
    return good ? std::string() : fmt::format("expected {}, got '{}'", expected, text);
  };
  return {check, std::string()};
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

// A whole number, at least `least`.
[[nodiscard]] inline CLI::Validator WholeNumber(int64_t least) {
  const auto check = [=](const std::string& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return !text.empty() && error == std::errc() && end == text.data() + text.size() && value >= least
               ? std::string()
               : fmt::format("expected a whole number, at least {}, got '{}'", least, text);
  };
  return {check, std::string()};
}

}  // namespace ksa
