#include "data/tokenizers/byte_letters.h"

namespace ksa {
namespace {

constexpr int kBytes = 256;
constexpr int kLetters = 324;  // code points 0 … 323: 188 bytes are their own letter, the other 68 follow from 256 on

constexpr bool IsOwnLetter(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr std::array<int16_t, kBytes> MakeLetters() {
  std::array<int16_t, kBytes> letters{};
  int16_t next = kBytes;
  for (int byte = 0; byte < kBytes; ++byte) {
    letters[static_cast<size_t>(byte)] = IsOwnLetter(byte) ? static_cast<int16_t>(byte) : next++;
  }
  return letters;
}

constexpr std::array<int16_t, kBytes> kLetterOfByte = MakeLetters();

constexpr std::array<int16_t, kLetters> MakeBytes() {
  std::array<int16_t, kLetters> bytes{};
  bytes.fill(-1);
  for (int byte = 0; byte < kBytes; ++byte) {
    bytes[static_cast<size_t>(kLetterOfByte[static_cast<size_t>(byte)])] = static_cast<int16_t>(byte);
  }
  return bytes;
}

constexpr std::array<int16_t, kLetters> kByteOfLetter = MakeBytes();

}  // namespace

std::string LetterOfByte(uint8_t byte) {
  const auto letter = static_cast<unsigned>(kLetterOfByte[byte]);
  if (letter < 0x80) {
    return {static_cast<char>(letter)};
  }
  return {static_cast<char>(0xC0U | (letter >> 6U)), static_cast<char>(0x80U | (letter & 0x3FU))};
}

std::optional<std::string> BytesOfLetters(std::string_view letters) {
  std::string bytes;
  bytes.reserve(letters.size());
  for (size_t i = 0; i < letters.size(); ++i) {
    unsigned letter = static_cast<unsigned char>(letters[i]);
    if (letter >= 0xC0 && letter < 0xE0 && i + 1 < letters.size()) {
      letter = ((letter & 0x1FU) << 6U) | (static_cast<unsigned char>(letters[++i]) & 0x3FU);
    } else if (letter >= 0x80) {
      return std::nullopt;  // a character beyond U+07FF
    }
    if (letter >= kLetters || kByteOfLetter[letter] < 0) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(kByteOfLetter[letter]));
  }
  return bytes;
}

}  // namespace ksa
