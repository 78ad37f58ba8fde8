#include "trainer/config/counts.h"

#include <algorithm>
#include <charconv>
#include <string>

#include <fmt/core.h>

namespace ksa {
namespace {

constexpr int64_t kPercent = 1000000;  // in the units of StepCount::share
constexpr int kShareDecimals = 6;

bool IsDigits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// "2.5" shifted by `zeros` decimal places: 2.5, 9 -> 2500000000. None where it is not whole, or too large.
std::optional<int64_t> Shifted(std::string_view text, int zeros) {
  const size_t point = text.find('.');
  std::string digits(text.substr(0, point));
  std::string fraction(point == std::string_view::npos ? "" : text.substr(point + 1));
  if (!IsDigits(digits) || (point != std::string_view::npos && !IsDigits(fraction))) {
    return std::nullopt;
  }
  while (!fraction.empty() && fraction.back() == '0') {
    fraction.pop_back();
  }
  if (zeros < 0 || zeros > 18 || fraction.size() > static_cast<size_t>(zeros)) {
    return std::nullopt;
  }
  digits += fraction + std::string(static_cast<size_t>(zeros) - fraction.size(), '0');
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && value <= kMostUpdates ? std::optional(value) : std::nullopt;
}

// "1_000_000" -> "1000000": a first group of one to three digits, then groups of three. Other texts stay.
std::string WithoutGroups(std::string_view text) {
  std::string joined;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('_', begin), text.size());
    const std::string_view group = text.substr(begin, end - begin);
    if (!IsDigits(group) || group.size() > 3 || (begin > 0 && group.size() != 3)) {
      return std::string(text);
    }
    joined += group;
    begin = end + 1;
  }
  return joined;
}

}  // namespace

std::optional<int64_t> ParseTokenCount(std::string_view text) {
  if (text.find('_') != std::string_view::npos) {
    return Shifted(WithoutGroups(text), 0);
  }
  if (const size_t unit = std::string_view("KMGT").find(text.empty() ? ' ' : text.back());
      unit != std::string_view::npos) {
    return Shifted(text.substr(0, text.size() - 1), 3 * (static_cast<int>(unit) + 1));
  }
  const size_t e = text.find_first_of("eE");
  if (e == std::string_view::npos) {
    const bool leading_zero = text.size() > 1 && text[0] == '0';
    return IsDigits(text) && !leading_zero ? Shifted(text, 0) : std::nullopt;
  }
  std::string_view exponent = text.substr(e + 1);
  exponent.remove_prefix(exponent.starts_with('+') ? 1 : 0);
  int zeros = 0;
  const auto [end, error] = std::from_chars(exponent.data(), exponent.data() + exponent.size(), zeros);
  return IsDigits(exponent) && error == std::errc() ? Shifted(text.substr(0, e), zeros) : std::nullopt;
}

Codec<int64_t> TokenCountCodec() {
  return {"count of tokens >= 1",
          [](const YamlNode& node, const Reporter& reporter, int64_t& out) {
            if (!CheckScalar(node, reporter, "a count of tokens")) {
              return false;
            }
            const std::optional<int64_t> count = node.plain ? ParseTokenCount(node.text) : std::nullopt;
            if (!count.has_value()) {
              return reporter.Fail(node.place,
                                   fmt::format("expected a whole number of tokens, at most 2^60, as in 1000000, "
                                               "1_000_000, 1e9 or 100G, got {}",
                                               Describe(node)));
            }
            if (*count < 1) {
              return reporter.Fail(node.place, fmt::format("must be at least 1, got {}", node.text));
            }
            out = *count;
            return true;
          },
          [](const int64_t& count) { return fmt::format("{}", count); }};
}

int64_t StepCount::Of(int64_t max_steps) const {
  if (!share.has_value()) {
    return steps;
  }
  __extension__ using Wide = __int128;  // 2^60 updates times 10^8
  return static_cast<int64_t>(Wide{max_steps} * *share / (Wide{100} * kPercent));
}

Codec<StepCount> StepCountCodec() {
  const Codec<int64_t> plain = IntegerCodec<int64_t>(0, kMostUpdates);
  return {"integer >= 0, or a percentage of max_steps",
          [plain](const YamlNode& node, const Reporter& reporter, StepCount& out) {
            if (node.kind != YamlNode::Kind::kScalar || !node.text.ends_with('%')) {
              out.share.reset();
              return plain.read(node, reporter, out.steps);
            }
            const std::string_view number = std::string_view(node.text).substr(0, node.text.size() - 1);
            const std::optional<int64_t> share = Shifted(number, kShareDecimals);
            if (!share.has_value() || *share > 100 * kPercent) {
              return reporter.Fail(
                  node.place,
                  fmt::format("expected a percentage of max_steps from 0% to 100%, as in 5%, got {}", Describe(node)));
            }
            out.share = share;
            return true;
          },
          [plain](const StepCount& count) {
            if (!count.share.has_value()) {
              return plain.write(count.steps);
            }
            std::string text = fmt::format("{}.{:06}", *count.share / kPercent, *count.share % kPercent);
            text.erase(text.find_last_not_of('0') + 1);
            return text + (text.ends_with('.') ? "0%" : "%");
          }};
}

}  // namespace ksa
