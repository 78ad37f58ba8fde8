#include "data/tools/utf8.h"

#include <cstdint>
#include <cstring>

namespace ksa {
namespace {

unsigned char ByteAt(std::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]);
}

struct Step {
  size_t length = 0;  // of the character, or of what is to be replaced as one
  bool valid = false;
};

// The character at position i, whose first byte is not ASCII.
Step DecodeStep(std::string_view text, size_t i) {
  const unsigned char lead = ByteAt(text, i);
  size_t length = 0;
  unsigned char low = 0x80;  // what the second byte may be
  unsigned char high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    low = lead == 0xE0 ? 0xA0 : 0x80;
    high = lead == 0xED ? 0x9F : 0xBF;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    low = lead == 0xF0 ? 0x90 : 0x80;
    high = lead == 0xF4 ? 0x8F : 0xBF;
  } else {
    return {1, false};
  }
  for (size_t k = 1; k < length; ++k) {
    if (i + k >= text.size() || ByteAt(text, i + k) < low || ByteAt(text, i + k) > high) {
      return {k, false};
    }
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

// The first position from i on that is not ASCII, or the end.
size_t SkipAscii(std::string_view text, size_t i) {
  constexpr size_t kStride = 64;
  while (i + kStride <= text.size()) {
    uint64_t words[kStride / 8];
    std::memcpy(words, text.data() + i, kStride);
    uint64_t any = 0;
    for (const uint64_t word : words) {
      any |= word;
    }
    if ((any & 0x8080808080808080U) != 0) {
      break;
    }
    i += kStride;
  }
  while (i < text.size() && ByteAt(text, i) < 0x80) {
    ++i;
  }
  return i;
}

}  // namespace

size_t ValidUtf8Prefix(std::string_view text) {
  size_t i = SkipAscii(text, 0);
  while (i < text.size()) {
    if (ByteAt(text, i) < 0x80) {
      i = SkipAscii(text, i);
      continue;
    }
    const Step step = DecodeStep(text, i);
    if (!step.valid) {
      return i;
    }
    i += step.length;
  }
  return text.size();
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t valid = ValidUtf8Prefix(text);
    result.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (!text.empty()) {
      result.append(kReplacement);
      text.remove_prefix(DecodeStep(text, 0).length);
    }
  }
  return result;
}

size_t Utf8BoundaryBefore(std::string_view text, size_t at) {
  constexpr size_t kMostContinuations = 3;
  for (size_t back = 0; back <= kMostContinuations && back <= at; ++back) {
    const size_t position = at - back;
    if (position == text.size() || position == 0 || (ByteAt(text, position) & 0xC0U) != 0x80) {
      return position;
    }
  }
  return at;  // not UTF-8 anyway
}

}  // namespace ksa
