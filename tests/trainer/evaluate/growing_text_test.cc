#include "trainer/evaluate/growing_text.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/tools/utf8.h"

namespace ksa {
namespace {

std::vector<int32_t> BytesOf(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) {
    ids.push_back(static_cast<unsigned char>(c));
  }
  return ids;
}

// What was shown at each token, and at the end.
std::vector<std::string> ShownOf(const std::string& text, const std::vector<std::string>& stops = {}) {
  const auto tokenizer = MakeByteTokenizer();
  GrowingText growing(*tokenizer, BytesOf("prompt "), stops);
  std::vector<std::string> shown;
  for (const int32_t id : BytesOf(text)) {
    shown.push_back(growing.Add(id));
    if (growing.stopped()) {
      return shown;
    }
  }
  shown.push_back(growing.End());
  return shown;
}

// `is_text`: each piece is of whole characters.
std::string Joined(const std::vector<std::string>& pieces, bool is_text = true) {
  std::string text;
  for (const std::string& piece : pieces) {
    EXPECT_TRUE(!is_text || ValidUtf8Prefix(piece) == piece.size());
    text += piece;
  }
  return text;
}

TEST(GrowingText, ShowsWholeCharacters) {
  EXPECT_EQ(ShownOf("a\xE2\x82\xAC"), (std::vector<std::string>{"a", "", "", "\xE2\x82\xAC", ""}));
  EXPECT_EQ(ShownOf("\xF0\x9F\x98\x80!"), (std::vector<std::string>{"", "", "", "\xF0\x9F\x98\x80", "!", ""}));
}

// A text of any bytes is shown as it is written when it is there as a whole.
TEST(GrowingText, BrokenBytesAreShownAsInTheWholeText) {
  const auto tokenizer = MakeByteTokenizer();
  std::vector<std::string> texts = {"\xE2\x82", "\xFF\xFE\xFD\xFC\xFB\xFA\xF9 and on", "\xE2\x82 a \xF0\x9F\x98"};
  std::string mixed;
  for (int i = 0; i < 300; ++i) {  // every start of a character beside every other
    mixed += i % 3 == 0 ? "\xE2\x82\xAC" : i % 5 == 0 ? "\xC3" : i % 7 == 0 ? "\x82\x82\x82\x82\x82\x82" : "x";
  }
  texts.push_back(mixed);
  for (const std::string& text : texts) {
    EXPECT_EQ(Joined(ShownOf(text), false), tokenizer->Decode(BytesOf(text)));
  }
}

TEST(GrowingText, NothingIsHeldBackForLong) {
  const std::vector<std::string> pieces = ShownOf(std::string(100, '\xFF'));
  EXPECT_LE(pieces.back().size(), 8 * kReplacement.size());
}

TEST(GrowingText, EndsBeforeAStopText) {
  EXPECT_EQ(Joined(ShownOf("one. two", {". "})), "one");
  EXPECT_EQ(Joined(ShownOf("abab! abac!", {"abac", "zz"})), "abab! ");
  EXPECT_EQ(Joined(ShownOf("aaab", {"aab"})), "a");
  EXPECT_EQ(Joined(ShownOf("x\xE2\x82\xACy", {"\xE2\x82\xAC"})), "x");
  EXPECT_EQ(Joined(ShownOf("first or second", {"second", "or"})), "first ");
}

TEST(GrowingText, AStopTextThatNeverComesTakesNothingAway) {
  EXPECT_EQ(Joined(ShownOf("almost sto", {"stop"})), "almost sto");
  EXPECT_EQ(ShownOf("ab", {"abc"}), (std::vector<std::string>{"", "", "ab"}));
  EXPECT_EQ(Joined(ShownOf(std::string(500, 'a'), {"aaab"})), std::string(500, 'a'));
}

}  // namespace
}  // namespace ksa
