// UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing over U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ksa {

inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the longest prefix that is valid: text.size() when all of it is.
[[nodiscard]] size_t ValidUtf8Prefix(std::string_view text);

// The text with U+FFFD in place of everything that is not UTF-8: one for each longest prefix of a character that breaks
// off, one for each other byte (the practice that Unicode recommends).
[[nodiscard]] std::string ReplaceInvalidUtf8(std::string_view text);

// The largest position <= `at` at which no character is cut in two.
[[nodiscard]] size_t Utf8BoundaryBefore(std::string_view text, size_t at);

}  // namespace ksa
