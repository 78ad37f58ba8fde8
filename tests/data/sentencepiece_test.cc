#include <random>

#include <gtest/gtest.h>

#include "data/tools/tokenize.h"
#include "data/tools/train_tokenizer.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;
using testing::TextsOf;

std::string SmallCorpus(size_t sentences) {
  std::vector<std::string> words = {"the", "summary", "of", "a", "window", "reads", "text", "caf\xC3\xA9", "long"};
  const std::vector<std::string> syllables = {"ka", "lo", "mi", "tu", "ren", "sav", "vo", "pist"};
  for (const std::string& first : syllables) {
    for (const std::string& second : syllables) {
      words.push_back(first);
      words.back() += second;
    }
  }
  std::mt19937 random(1);
  std::string text;
  for (size_t s = 0; s < sentences; ++s) {
    for (unsigned w = 4 + random() % 9; w > 0; --w) {
      text += words[random() % 3 == 0 ? random() % 9 : random() % words.size()] + (w == 1 ? ".\n" : " ");
    }
  }
  return text;
}

class SentencePieceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::WriteFile(folder_ / "text", SmallCorpus(400));
    options_.inputs = {folder_ / "text"};
    options_.output = folder_ / "small.model";
    options_.training.vocab_size = 330;
  }

  TestFolder folder_;
  TrainTokenizerOptions options_;
};

TEST_F(SentencePieceTest, TrainedModelsRoundTripAnyText) {
  for (const SentencePieceKind kind : {SentencePieceKind::kBpe, SentencePieceKind::kUnigram}) {
    options_.output = folder_ / fmt::format("{}.model", static_cast<int>(kind));
    options_.training.kind = kind;
    static_cast<void>(TrainTokenizer(options_));
    const auto tokenizer = OpenTokenizer(options_.output);
    EXPECT_EQ(tokenizer->vocab_size(), 330);
    EXPECT_EQ(tokenizer->eos_id(), 2);
    for (const std::string text : {"the summary of a token",
                                   "two  spaces ",
                                   "\xE6\xBC\xA2\xE5\xAD\x97 \xF0\x9F\x98\x80",
                                   "line\nbreak\n\ttab"}) {
      std::vector<int32_t> ids;
      tokenizer->Encode(text, ids);
      EXPECT_EQ(tokenizer->Decode(ids), text);
    }
    std::vector<int32_t> ids;
    tokenizer->Encode("summary window", ids);
    EXPECT_LT(ids.size(), 8U);  // 14 characters
    EXPECT_KSA_ERROR(tokenizer->Decode(std::vector<int32_t>{330}), ExitCode::kBadData, "330");
  }
}

TEST_F(SentencePieceTest, TrainingIsRepeatable) {
  options_.training.max_sentences = 300;  // fewer than there are
  static_cast<void>(TrainTokenizer(options_));
  const std::string first = testing::ReadFile(options_.output);
  options_.output = folder_ / "again.model";
  static_cast<void>(TrainTokenizer(options_));
  EXPECT_TRUE(testing::ReadFile(options_.output) == first);
  EXPECT_KSA_ERROR(TrainTokenizer(options_), ExitCode::kCannotCreate, "again.model");
}

// SentencePiece leaves out lines of more than 64 KiB and lines with U+2585, and says so to nobody.
TEST_F(SentencePieceTest, NoLineIsLeftOut) {
  std::string line = SmallCorpus(2000);
  std::replace(line.begin(), line.end(), '\n', ' ');
  ASSERT_GT(line.size(), 70000U);
  testing::WriteFile(folder_ / "text", line + "\n");
  TrainTokenizerSummary summary = TrainTokenizer(options_);
  EXPECT_EQ(summary.lines, 1);
  EXPECT_EQ(summary.cut_lines, 1);
  EXPECT_EQ(summary.lost_marks, 0);
  std::vector<int32_t> ids;
  OpenTokenizer(options_.output)->Encode("summary window", ids);
  EXPECT_LT(ids.size(), 8U);  // learned from that line

  std::string marked;
  for (const char c : SmallCorpus(400)) {
    marked += c == ' ' ? std::string(" \xE2\x96\x85 ") : std::string(1, c);
  }
  testing::WriteFile(folder_ / "text", marked);
  options_.output = folder_ / "marked.model";
  summary = TrainTokenizer(options_);
  EXPECT_EQ(summary.lines, 400);
  EXPECT_EQ(summary.cut_lines, 0);
  EXPECT_GT(summary.lost_marks, 1000);
  ids.clear();
  OpenTokenizer(options_.output)->Encode("summary window", ids);
  EXPECT_LT(ids.size(), 8U);

  // Without a space: cut between characters. Longer than what is read at once: still one line.
  std::string solid;
  while (solid.size() < 3'000'000) {
    solid += "\xE6\x97\xA5\xE6\x9C\xAC";
  }
  testing::WriteFile(folder_ / "text", "\xEF\xBB\xBF" + solid + "\n" + SmallCorpus(400));
  options_.output = folder_ / "solid.model";
  summary = TrainTokenizer(options_);
  EXPECT_EQ(summary.lines, 401);
  EXPECT_EQ(summary.cut_lines, 1);
}

TEST_F(SentencePieceTest, TrainingRefusesAtOnceWhereTheModelCannotBePut) {
  EXPECT_KSA_ERROR(TrainTokenizer([&] {
                     TrainTokenizerOptions options = options_;
                     options.output = folder_ / "absent/m.model";
                     return options;
                   }()),
                   ExitCode::kCannotCreate,
                   "No such file");
}

// What was generated, behind its prompt: parts decoded alone lose the space between them.
TEST_F(SentencePieceTest, TextBehindAPromptKeepsItsSpace) {
  static_cast<void>(TrainTokenizer(options_));
  const auto tokenizer = OpenTokenizer(options_.output);
  for (const std::string rest : {" of a window", "less", "\nreads", "  twice", ""}) {
    std::vector<int32_t> ids;
    tokenizer->Encode("the summary", ids);
    const size_t prompt = ids.size();
    if (!rest.empty()) {
      tokenizer->EncodeRest(rest, ids);
    }
    EXPECT_EQ(DecodeBehind(*tokenizer, ids, prompt), rest);
    EXPECT_EQ(tokenizer->Decode(ids), "the summary" + rest);
  }
  EXPECT_EQ(DecodeBehind(*MakeByteTokenizer(), std::vector<int32_t>{'a', 'b', 'c'}, 1), "bc");
}

// A text without spaces is cut between characters: no space comes in there.
TEST_F(SentencePieceTest, LongTextsWithoutSpacesGetNone) {
  static_cast<void>(TrainTokenizer(options_));
  std::string text;
  while (text.size() < 2'600'000) {
    text += "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E";
  }
  testing::WriteFile(folder_ / "solid", text);
  TokenizeOptions tokenize;
  tokenize.inputs = {folder_ / "solid"};
  tokenize.output = folder_ / "shards";
  tokenize.tokenizer = options_.output;
  static_cast<void>(TokenizeText(tokenize));
  EXPECT_TRUE(TextsOf(tokenize.output).front() == text);
  std::vector<int32_t> whole;
  OpenTokenizer(options_.output)->Encode(text, whole);
  whole.push_back(2);
  EXPECT_TRUE(testing::TokensOf(ShardFolder(tokenize.output).shards().front()) == whole);
}

TEST_F(SentencePieceTest, TrainsOnJsonLines) {
  std::string json;
  std::string text = SmallCorpus(400);
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find('\n', begin);
    json += "{\"t\": \"" + text.substr(begin, newline - begin) + "\"}\n";
    begin = newline + 1;
  }
  static_cast<void>(TrainTokenizer(options_));
  testing::WriteFile(folder_ / "text.jsonl", json);
  TrainTokenizerOptions other = options_;
  other.inputs = {folder_ / "text.jsonl"};
  other.jsonl_field = "t";
  other.output = folder_ / "json.model";
  static_cast<void>(TrainTokenizer(other));
  const auto plain = OpenTokenizer(options_.output);
  const auto from_json = OpenTokenizer(other.output);
  std::vector<int32_t> a;
  std::vector<int32_t> b;
  plain->Encode("the long summary of a window reads text", a);
  from_json->Encode("the long summary of a window reads text", b);
  EXPECT_EQ(a, b);
}

TEST_F(SentencePieceTest, BadTextIsNamed) {
  testing::WriteFile(folder_ / "text", "fine \xFF\n");
  EXPECT_KSA_ERROR(TrainTokenizer(options_), ExitCode::kBadData, "byte 5");
  testing::WriteFile(folder_ / "text", "");
  EXPECT_KSA_ERROR(TrainTokenizer(options_), ExitCode::kBadData, "no text");
  testing::WriteFile(folder_ / "text", "too little text\n");
  EXPECT_KSA_ERROR(TrainTokenizer(options_), ExitCode::kBadData, "vocabulary of 330");
  options_.inputs = {folder_ / "absent"};
  EXPECT_KSA_ERROR(TrainTokenizer(options_), ExitCode::kMissingInput, "absent");
}

TEST_F(SentencePieceTest, ShardsHoldTheTokensOfTheLibraryAndTheModel) {
  static_cast<void>(TrainTokenizer(options_));
  TokenizeOptions tokenize;
  // Also a line that is longer than a piece: it is cut at spaces, which changes no token.
  std::string long_line = SmallCorpus(40000);
  std::replace(long_line.begin(), long_line.end(), '\n', ' ');
  testing::WriteFile(folder_ / "input", "the first line\n" + long_line + "\nlast\n");
  tokenize.inputs = {folder_ / "input"};
  tokenize.output = folder_ / "shards";
  tokenize.tokenizer = options_.output;
  tokenize.threads = 2;
  static_cast<void>(TokenizeText(tokenize));

  const ShardFolder folder(tokenize.output);
  EXPECT_EQ(folder.index().tokenizer, "small.model");
  EXPECT_EQ(testing::ReadFile(folder.TokenizerPath()), testing::ReadFile(options_.output));
  const auto tokenizer = OpenTokenizer(options_.output);
  std::vector<int32_t> expected;
  ASSERT_GT(long_line.size(), size_t{1} << 20);
  for (const std::string& line : {std::string("the first line"), long_line, std::string("last")}) {
    tokenizer->Encode(line, expected);
    expected.push_back(2);
  }
  EXPECT_TRUE(testing::TokensOf(folder.shards().front()) == expected);
  EXPECT_EQ(TextsOf(tokenize.output).back(), "last");
}

}  // namespace
}  // namespace ksa
