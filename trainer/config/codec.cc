#include "trainer/config/codec.h"

#include <charconv>
#include <cmath>
#include <system_error>

#include <fmt/core.h>

namespace ksa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool IsPlainInteger(const std::string& text) {
  const size_t first = text.starts_with('-') ? 1 : 0;
  const bool leading_zero = text.size() > first + 1 && text[first] == '0';
  return text.size() > first && !leading_zero && text.find_first_not_of("0123456789", first) == std::string::npos;
}

bool IsPlainNumber(const std::string& text) {
  return text.find_first_not_of("0123456789.eE+-") == std::string::npos &&
         text.find_first_of("0123456789") != std::string::npos;
}

std::string NumberRange(double least, bool open, double below) {
  const std::string lower = fmt::format("{} {}", open ? "greater than" : "at least", least);
  return below == kInfinity ? lower : lower + fmt::format(" and less than {}", below);
}

}  // namespace

bool CheckScalar(const YamlNode& node, const Reporter& reporter, const std::string& what) {
  if (node.kind == YamlNode::Kind::kScalar || node.kind == YamlNode::Kind::kInvalid) {
    return node.kind == YamlNode::Kind::kScalar;
  }
  return reporter.Fail(node.place, "expected " + what + ", got " + Describe(node));
}

bool FailName(const YamlNode& node, const Reporter& reporter, const std::vector<std::string>& names) {
  const std::string nearest = node.text.size() < 4 ? "" : NearestName(node.text, names);
  return reporter.Fail(node.place,
                       fmt::format("expected one of {}, got {}{}",
                                   Joined(names),
                                   Quoted(node.text),
                                   nearest.empty() ? "" : "; did you mean '" + nearest + "'?"));
}

template <typename T>
Codec<T> IntegerCodec(T least, T most) {
  const std::string type = most < static_cast<T>(kLargestSize) ? fmt::format("integer from {} to {}", least, most)
                                                               : fmt::format("integer >= {}", least);
  return {type,
          [=](const YamlNode& node, const Reporter& reporter, T& out) {
            if (!CheckScalar(node, reporter, "a whole number")) {
              return false;
            }
            if (!node.plain || !IsPlainInteger(node.text)) {
              return reporter.Fail(
                  node.place, fmt::format("expected a whole number in plain digits, as in 8, got {}", Describe(node)));
            }
            T value{};
            const std::from_chars_result result =
                std::from_chars(node.text.data(), node.text.data() + node.text.size(), value);
            const bool fits = result.ec == std::errc();
            if ((!fits && node.text[0] == '-') || (fits && value < least)) {
              return reporter.Fail(node.place, fmt::format("must be at least {}, got {}", least, node.text));
            }
            if (!fits || value > most) {
              return reporter.Fail(node.place, fmt::format("must be at most {}, got {}", most, node.text));
            }
            out = value;
            return true;
          },
          [](const T& value) { return fmt::format("{}", value); }};
}

template Codec<int32_t> IntegerCodec(int32_t, int32_t);
template Codec<int64_t> IntegerCodec(int64_t, int64_t);
template Codec<uint64_t> IntegerCodec(uint64_t, uint64_t);

Codec<double> NumberCodec(double least, bool open, double below) {
  const std::string range = NumberRange(least, open, below);
  return {
      "number " + range,
      [=](const YamlNode& node, const Reporter& reporter, double& out) {
        if (!CheckScalar(node, reporter, "a number")) {
          return false;
        }
        double value = 0.0;
        const char* end = node.text.data() + node.text.size();
        const std::from_chars_result result = std::from_chars(node.text.data(), end, value);
        const bool too_large = result.ec == std::errc::result_out_of_range && result.ptr == end;
        if (!node.plain || !IsPlainNumber(node.text) || result.ptr != end || (result.ec != std::errc() && !too_large)) {
          return reporter.Fail(node.place, fmt::format("expected a number, as in 0.1, got {}", Describe(node)));
        }
        if (too_large || value < least || (open && value == least) || value >= below) {
          return reporter.Fail(
              node.place,
              fmt::format("must be {}{}, got {}", range, too_large ? " and fit a 64-bit float" : "", node.text));
        }
        out = value;
        return true;
      },
      [](const double& value) { return fmt::format("{}", value); }};
}

Codec<bool> BoolCodec() {
  return {"true, false",
          [](const YamlNode& node, const Reporter& reporter, bool& out) {
            if (!CheckScalar(node, reporter, "true or false")) {
              return false;
            }
            if (!node.IsWord("true") && !node.IsWord("false")) {
              return reporter.Fail(node.place, "expected true or false, got " + Describe(node));
            }
            out = node.text == "true";
            return true;
          },
          [](const bool& value) { return std::string(value ? "true" : "false"); }};
}

Codec<std::string> TextCodec() {
  return {"text",
          [](const YamlNode& node, const Reporter& reporter, std::string& out) {
            if (!CheckScalar(node, reporter, "a text")) {
              return false;
            }
            if (node.text.empty()) {
              return reporter.Fail(node.place, "expected a text, got an empty one");
            }
            if (node.text.find('\0') != std::string::npos) {
              return reporter.Fail(node.place, "holds a zero byte, where names and paths end; remove it");
            }
            out = node.text;
            return true;
          },
          [](const std::string& value) { return ScalarText(value); }};
}

Codec<std::string> PathCodec() {
  Codec<std::string> codec = TextCodec();
  codec.read = [text = codec.read](const YamlNode& node, const Reporter& reporter, std::string& out) {
    if (!text(node, reporter, out)) {
      return false;
    }
    if (out.starts_with('~')) {
      return reporter.Fail(node.place,
                           fmt::format("{} begins with ~, which only shells replace; write the whole path, or ./{} if "
                                       "the folder is called so",
                                       Quoted(out),
                                       out));
    }
    return true;
  };
  return codec;
}

bool ReadItem(const YamlNode& node, const Reporter& reporter, const std::vector<ItemField>& fields) {
  std::vector<std::string> names;
  for (const ItemField& field : fields) {
    names.push_back(field.name);
  }
  if (node.kind != YamlNode::Kind::kMapping) {
    return node.kind != YamlNode::Kind::kInvalid &&
           reporter.Fail(node.place, fmt::format("expected a mapping of {}, got {}", Joined(names), Describe(node)));
  }
  bool good = true;
  for (const YamlEntry& entry : node.entries) {
    bool known = false;
    for (const ItemField& field : fields) {
      if (field.name == entry.key) {
        known = true;
        good = field.read(entry.value, reporter.Field(entry.key)) && good;
      }
    }
    if (!known) {
      const std::string nearest = NearestName(entry.key, names);
      good = reporter.Field(entry.key).Fail(entry.key_place,
                                            nearest.empty()
                                                ? fmt::format("unknown key; the keys here are {}", Joined(names))
                                                : fmt::format("unknown key; did you mean '{}'?", nearest));
    }
  }
  return good;
}

}  // namespace ksa
