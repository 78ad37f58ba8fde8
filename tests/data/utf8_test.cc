#include "data/tools/utf8.h"

#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace ksa {
namespace {

// Every character encoded by arithmetic: what is valid, from the other side.
std::string EncodeCharacter(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (c < 0x80) {
    return {byte(c)};
  }
  if (c < 0x800) {
    return {byte(0xC0 + c / 64), byte(0x80 + c % 64)};
  }
  if (c < 0x10000) {
    return {byte(0xE0 + c / 4096), byte(0x80 + c / 64 % 64), byte(0x80 + c % 64)};
  }
  return {byte(0xF0 + c / 262144), byte(0x80 + c / 4096 % 64), byte(0x80 + c / 64 % 64), byte(0x80 + c % 64)};
}

// The length of the character at the start of the text, 0 when there is none: decodes to a number, which must be a
// character whose encoding is those bytes.
size_t NaiveLength(std::string_view text) {
  for (size_t length = 1; length <= 4 && length <= text.size(); ++length) {
    const auto lead = static_cast<unsigned char>(text[0]);
    uint32_t c = length == 1 ? lead : lead & (0x7FU >> length);
    for (size_t i = 1; i < length; ++i) {
      c = c * 64 + (static_cast<unsigned char>(text[i]) & 0x3FU);
    }
    const bool is_character = c < 0xD800 || (c > 0xDFFF && c <= 0x10FFFF);
    if (is_character && EncodeCharacter(c) == text.substr(0, length)) {
      return length;
    }
  }
  return 0;
}

size_t NaivePrefix(std::string_view text) {
  size_t i = 0;
  while (i < text.size() && NaiveLength(text.substr(i)) > 0) {
    i += NaiveLength(text.substr(i));
  }
  return i;
}

TEST(Utf8, AcceptsEveryCharacter) {
  std::string all;
  for (uint32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 || (c > 0xD000 && c < 0x10100) ? 1 : 37) {
    if (c < 0xD800 || c > 0xDFFF) {
      all += EncodeCharacter(c);
    }
  }
  EXPECT_EQ(ValidUtf8Prefix(all), all.size());
  EXPECT_EQ(ReplaceInvalidUtf8(all), all);
}

TEST(Utf8, EveryPairAndTripleOfInterestingBytesAgreesWithTheNaiveDecoder) {
  std::string pair(2, '\0');
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      pair[0] = static_cast<char>(a);
      pair[1] = static_cast<char>(b);
      ASSERT_EQ(ValidUtf8Prefix(pair), NaivePrefix(pair)) << a << " " << b;
    }
  }
  const std::vector<int> edges = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                                  0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
  std::string text(4, '\0');
  for (const int a : edges) {
    for (const int b : edges) {
      for (const int c : edges) {
        for (const int d : edges) {
          text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c), static_cast<char>(d)};
          ASSERT_EQ(ValidUtf8Prefix(text), NaivePrefix(text)) << a << " " << b << " " << c << " " << d;
        }
      }
    }
  }
}

TEST(Utf8, FindsTheErrorBehindLongAscii) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string text(random() % 300, 'x');
    for (unsigned i = random() % 4; i > 0; --i) {
      text.insert(random() % (text.size() + 1), trial % 2 == 0 ? "\xC3\xA9" : "\xE2\x82");
    }
    ASSERT_EQ(ValidUtf8Prefix(text), NaivePrefix(text));
  }
}

TEST(Utf8, ReplacesByTheUnicodePractice) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(ReplaceInvalidUtf8("a\x92z"), "a" + bad + "z");
  EXPECT_EQ(ReplaceInvalidUtf8("\xF0\x80\x80\x41"), bad + bad + bad + "A");  // Unicode 15, table 3-8
  EXPECT_EQ(ReplaceInvalidUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), bad + bad + bad + bad + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE2\x82"), bad);
  EXPECT_EQ(ReplaceInvalidUtf8(""), "");
}

TEST(Utf8, FindsBoundaries) {
  const std::string text = "a\xE2\x82\xAC";  // a, euro sign
  EXPECT_EQ(Utf8BoundaryBefore(text, 0), 0U);
  EXPECT_EQ(Utf8BoundaryBefore(text, 1), 1U);
  EXPECT_EQ(Utf8BoundaryBefore(text, 2), 1U);
  EXPECT_EQ(Utf8BoundaryBefore(text, 3), 1U);
  EXPECT_EQ(Utf8BoundaryBefore(text, 4), 4U);
}

}  // namespace
}  // namespace ksa
