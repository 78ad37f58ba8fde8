#include "data/tokenizers/nfc.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include <utf8proc.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr utf8proc_int32_t kCodes = 0x110000;
constexpr utf8proc_int32_t kFirstUnsafe = 0x300;  // all characters before it are in form C and join nothing before them
constexpr utf8proc_int32_t kSurrogates = 0xD800;
constexpr utf8proc_int32_t kBehindSurrogates = 0xE000;

// For each character whether text may be cut before it, normalized on both sides and joined, and it itself is in form
// C: it combines with nothing before it and does not decompose for good.
class SafeCharacters {
 public:
  SafeCharacters() : bits_(static_cast<size_t>(kCodes) / 64, UINT64_MAX) {
    for (utf8proc_int32_t code = kFirstUnsafe; code < kCodes; ++code) {
      if (code == kSurrogates) {
        code = kBehindSurrogates;
      }
      Look(code);
    }
  }

  [[nodiscard]] bool Has(utf8proc_int32_t code) const {
    return (bits_[static_cast<size_t>(code) / 64] >> (static_cast<unsigned>(code) % 64) & 1U) != 0;
  }

 private:
  void Look(utf8proc_int32_t code) {
    if (utf8proc_get_property(code)->combining_class != 0) {
      Clear(code);
    }
    std::array<utf8proc_int32_t, 32> parts{};
    int last_class = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        code, parts.data(), static_cast<utf8proc_ssize_t>(parts.size()), UTF8PROC_DECOMPOSE, &last_class);
    KSA_CHECK(count >= 1 && count <= static_cast<utf8proc_ssize_t>(parts.size()),
              "utf8proc decomposes U+{:04X} into {} characters",
              code,
              count);
    if (count == 1 && parts[0] == code) {
      return;
    }
    for (utf8proc_ssize_t i = 1; i < count; ++i) {
      Clear(parts[static_cast<size_t>(i)]);
    }
    const utf8proc_ssize_t composed = utf8proc_normalize_utf32(
        parts.data(), count, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    if (composed != 1 || parts[0] != code) {
      Clear(code);
    }
  }

  void Clear(utf8proc_int32_t code) {
    bits_[static_cast<size_t>(code) / 64] &= ~(uint64_t{1} << (static_cast<unsigned>(code) % 64));
  }

  std::vector<uint64_t> bits_;
};

const SafeCharacters& Safe() {
  static const SafeCharacters safe;
  return safe;
}

// The first place from `at` on where a character may be unsafe by its first byte alone (0xCC begins U+0300).
size_t SkipBelow300(std::string_view text, size_t at) {
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0xCC) {
    ++at;
  }
  return at;
}

struct Character {
  utf8proc_int32_t code = 0;
  size_t bytes = 0;
};

// The character at `at`, which is its first byte.
Character CharacterAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<utf8proc_int32_t>(static_cast<unsigned char>(text[at + i])); };
  const utf8proc_int32_t lead = byte(0);
  if (lead < 0x80) {
    return {lead, 1};
  }
  if (lead < 0xE0) {
    return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  }
  if (lead < 0xF0) {
    return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  }
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

// Begin of the character before `at`.
size_t BeginBefore(std::string_view text, size_t at) {
  do {
    --at;
  } while ((static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80);
  return at;
}

void AppendNormalized(std::string_view part, std::string& out) {
  struct Free {
    void operator()(utf8proc_uint8_t* text) const { std::free(text); }
  };

  utf8proc_uint8_t* raw = nullptr;
  const utf8proc_ssize_t bytes = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(part.data()),
                                              static_cast<utf8proc_ssize_t>(part.size()),
                                              &raw,
                                              static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  const std::unique_ptr<utf8proc_uint8_t, Free> normalized(raw);
  if (bytes == UTF8PROC_ERROR_NOMEM) {
    throw std::bad_alloc();
  }
  if (bytes < 0) {
    Fail(ExitCode::kBadData, "{} bytes of text cannot be normalized: {}", part.size(), utf8proc_errmsg(bytes));
  }
  out.append(reinterpret_cast<const char*>(normalized.get()), static_cast<size_t>(bytes));
}

}  // namespace

std::string_view ToNfc(std::string_view text, std::string& changed) {
  const SafeCharacters& safe = Safe();
  changed.clear();
  size_t copied = 0;  // of `text`, into `changed`
  for (size_t at = SkipBelow300(text, 0); at < text.size(); at = SkipBelow300(text, at)) {
    const Character character = CharacterAt(text, at);
    if (safe.Has(character.code)) {
      at += character.bytes;
      continue;
    }
    // From the safe character before to the next: nothing outside has a part in how these combine.
    const size_t begin = at > copied ? BeginBefore(text, at) : at;
    size_t end = at + character.bytes;
    while (end < text.size()) {
      const Character next = CharacterAt(text, end);
      if (safe.Has(next.code)) {
        break;
      }
      end += next.bytes;
    }
    changed.append(text.substr(copied, begin - copied));
    AppendNormalized(text.substr(begin, end - begin), changed);
    copied = end;
    at = end;
  }
  if (copied == 0) {
    return text;
  }
  changed.append(text.substr(copied));
  return changed;
}

}  // namespace ksa
