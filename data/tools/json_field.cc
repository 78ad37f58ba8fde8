#include "data/tools/json_field.h"

#include <cstdint>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "data/tools/utf8.h"

namespace ksa {
namespace {

constexpr size_t kMostDepth = size_t{1} << 16;  // of brackets; a byte of memory each

void AppendUtf8(uint32_t code, std::string& to) {
  const auto tail = [&](unsigned shift) { to.push_back(static_cast<char>(0x80U | ((code >> shift) & 0x3FU))); };
  if (code < 0x80) {
    to.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    to.push_back(static_cast<char>(0xC0U | (code >> 6U)));
    tail(0);
  } else if (code < 0x10000) {
    to.push_back(static_cast<char>(0xE0U | (code >> 12U)));
    tail(6);
    tail(0);
  } else {
    to.push_back(static_cast<char>(0xF0U | (code >> 18U)));
    tail(12);
    tail(6);
    tail(0);
  }
}

bool IsHigh(uint32_t code) {
  return code >= 0xD800 && code < 0xDC00;
}

bool IsLow(uint32_t code) {
  return code >= 0xDC00 && code < 0xE000;
}

// Reads the line from front to back. Every function but Result returns false after an error, which is kept.
class Scanner {
 public:
  Scanner(std::string_view json, const std::string& field, bool replace_halves, std::string& value)
      : json_(json), field_(field), replace_halves_(replace_halves), value_(value) {}

  std::string Run() {
    SkipSpace();
    if (!Is('{')) {
      return "a JSON object was expected on the line";
    }
    if (Object()) {
      SkipSpace();
      if (at_ < json_.size()) {
        NotJson("the end of the line");
      } else if (!found_) {
        error_ = fmt::format("the object has no field '{}'", field_);
      }
    }
    return error_;
  }

 private:
  [[nodiscard]] bool Is(char c) const { return at_ < json_.size() && json_[at_] == c; }

  bool NotJson(std::string_view expected) {
    if (at_ == json_.size()) {
      return Stop(fmt::format("not JSON: the line ends where {} was expected", expected));
    }
    const auto c = static_cast<unsigned char>(json_[at_]);
    const std::string found = c > 0x20 && c < 0x7F ? fmt::format("'{}'", json_[at_]) : fmt::format("byte 0x{:02x}", c);
    return Stop(fmt::format("not JSON: {} was expected at byte {} of the line, found {}", expected, at_, found));
  }

  bool Stop(std::string error) {
    error_ = std::move(error);
    return false;
  }

  void SkipSpace() {
    while (at_ < json_.size() &&
           (json_[at_] == ' ' || json_[at_] == '\t' || json_[at_] == '\r' || json_[at_] == '\n')) {
      ++at_;
    }
  }

  bool Take(char c, const char* name) {
    if (!Is(c)) {
      return NotJson(name);
    }
    ++at_;
    return true;
  }

  // The object of the line: its fields are looked at, their values skipped.
  bool Object() {
    ++at_;
    SkipSpace();
    if (Is('}')) {
      ++at_;
      return true;
    }
    while (true) {
      SkipSpace();
      key_.clear();
      if (!String(&key_, true)) {
        return false;
      }
      SkipSpace();
      if (!Take(':', "':'")) {
        return false;
      }
      SkipSpace();
      if (!(key_ == field_ ? Wanted() : Value())) {
        return false;
      }
      SkipSpace();
      if (Is('}')) {
        ++at_;
        return true;
      }
      if (!Take(',', "',' or '}'")) {
        return false;
      }
    }
  }

  bool Wanted() {
    if (found_) {
      return Stop(fmt::format("the field '{}' is there twice", field_));
    }
    if (!Is('"')) {
      return Stop(fmt::format("the field '{}' is not a string", field_));
    }
    found_ = true;
    return String(&value_, replace_halves_);
  }

  // Any value. Nesting takes a byte a level here, no stack.
  bool Value() {
    std::vector<char> open;  // the brackets that are
    while (true) {
      SkipSpace();
      if (Is('{') || Is('[')) {
        if (open.size() == kMostDepth) {
          return Stop(fmt::format("JSON nested deeper than {} levels", kMostDepth));
        }
        open.push_back(json_[at_++]);
        SkipSpace();
        if (!Is(open.back() == '{' ? '}' : ']')) {
          if (open.back() == '{' && !Key()) {
            return false;
          }
          continue;
        }
        ++at_;
        open.pop_back();
      } else if (!Scalar()) {
        return false;
      }
      if (!AfterValue(open)) {
        return false;
      }
      if (open.empty()) {
        return true;
      }
    }
  }

  // Behind a value: the brackets that end here, then the comma (and key) before the next one, if a bracket is open
  // still.
  bool AfterValue(std::vector<char>& open) {
    while (!open.empty()) {
      SkipSpace();
      const bool object = open.back() == '{';
      if (Is(object ? '}' : ']')) {
        ++at_;
        open.pop_back();
        continue;
      }
      if (!Take(',', object ? "',' or '}'" : "',' or ']'")) {
        return false;
      }
      SkipSpace();
      return !object || Key();
    }
    return true;
  }

  bool Key() {
    if (!String(nullptr, true)) {
      return false;
    }
    SkipSpace();
    return Take(':', "':'");
  }

  bool Scalar() {
    if (Is('"')) {
      return String(nullptr, true);
    }
    for (const std::string_view word : {"true", "false", "null", "NaN", "Infinity", "-Infinity"}) {
      if (json_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return true;
      }
    }
    return Number();
  }

  bool Digits() {
    const size_t begin = at_;
    while (at_ < json_.size() && json_[at_] >= '0' && json_[at_] <= '9') {
      ++at_;
    }
    return at_ > begin ? true : NotJson("a digit");
  }

  // Any number of digits: what it is worth does not matter.
  bool Number() {
    if (Is('-')) {
      ++at_;
    }
    const bool zero = Is('0');
    if (zero) {
      ++at_;
    } else if (!(at_ < json_.size() && json_[at_] >= '1' && json_[at_] <= '9')) {
      return NotJson("a value");
    } else if (!Digits()) {
      return false;
    }
    if (Is('.')) {
      ++at_;
      if (!Digits()) {
        return false;
      }
    }
    if (Is('e') || Is('E')) {
      ++at_;
      if (Is('+') || Is('-')) {
        ++at_;
      }
      return Digits();
    }
    return true;
  }

  // A string; its text is appended to `to` if there is one.
  bool String(std::string* to, bool replace_halves) {
    if (!Take('"', "a string")) {
      return false;
    }
    while (true) {
      const size_t begin = at_;
      while (at_ < json_.size() && json_[at_] != '"' && json_[at_] != '\\' &&
             static_cast<unsigned char>(json_[at_]) >= 0x20) {
        ++at_;
      }
      if (to != nullptr) {
        to->append(json_.substr(begin, at_ - begin));
      }
      if (Is('"')) {
        ++at_;
        return true;
      }
      if (at_ == json_.size()) {
        return NotJson("the end of a string");
      }
      if (!Is('\\')) {
        return Stop(
            fmt::format("not JSON: a control character (0x{:02x}) stands unescaped in a string at byte {} of the line",
                        static_cast<unsigned char>(json_[at_]),
                        at_));
      }
      ++at_;
      if (!Escape(to, replace_halves)) {
        return false;
      }
    }
  }

  bool Escape(std::string* to, bool replace_halves) {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const size_t name = at_ < json_.size() ? kNames.find(json_[at_]) : std::string_view::npos;
    if (name != std::string_view::npos) {
      ++at_;
      if (to != nullptr) {
        to->push_back(kMeanings[name]);
      }
      return true;
    }
    const size_t begin = at_ - 1;
    uint32_t code = 0;
    if (!Take('u', "an escape (one of \"\\/bfnrtu)") || !Hex(code)) {
      return false;
    }
    if (IsHigh(code) && json_.substr(at_, 2) == "\\u") {
      const size_t second_begin = at_;
      at_ += 2;
      uint32_t second = 0;
      if (!Hex(second)) {
        return false;
      }
      if (IsLow(second)) {
        code = 0x10000 + ((code - 0xD800) << 10U) + (second - 0xDC00);
      } else {
        at_ = second_begin;  // an escape of its own
      }
    }
    if (!IsHigh(code) && !IsLow(code)) {
      if (to != nullptr) {
        AppendUtf8(code, *to);
      }
      return true;
    }
    if (!replace_halves) {
      return Stop(fmt::format(
          "{} at byte {} of the line is half a character; `--invalid-utf8 replace` puts U+FFFD in its place",
          json_.substr(begin, 6),
          begin));
    }
    if (to != nullptr) {
      to->append(kReplacement);
    }
    return true;
  }

  bool Hex(uint32_t& code) {
    code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = at_ < json_.size() ? json_[at_] : '\0';
      const uint32_t digit = c >= '0' && c <= '9'   ? static_cast<uint32_t>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<uint32_t>(c - 'a' + 10)
                             : c >= 'A' && c <= 'F' ? static_cast<uint32_t>(c - 'A' + 10)
                                                    : 16;
      if (digit == 16) {
        return NotJson("a hexadecimal digit");
      }
      code = code * 16 + digit;
      ++at_;
    }
    return true;
  }

  std::string_view json_;
  const std::string& field_;
  bool replace_halves_;
  std::string& value_;
  size_t at_ = 0;
  std::string key_;
  bool found_ = false;
  std::string error_;
};

}  // namespace

std::string FindJsonField(std::string_view json, const std::string& field, bool replace_halves, std::string& value) {
  value.clear();
  return Scanner(json, field, replace_halves, value).Run();
}

}  // namespace ksa
