// GPT-2's spelling of bytes as letters: the vocabulary of a byte-level tokenizer is text, in which each of the 256
// bytes has a visible letter of its own (a space is U+0120).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ksa {

// The letter of a byte, in UTF-8.
[[nodiscard]] std::string LetterOfByte(uint8_t byte);

// The bytes that a text in these letters stands for; nothing when a character in it is no such letter.
[[nodiscard]] std::optional<std::string> BytesOfLetters(std::string_view letters);

}  // namespace ksa
