// Byte-level BPE tokenizers against the ids that Hugging Face's own library and tiktoken give
// (tests/data/tokenizers/oracle.py, run by hand).
#include <sstream>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/tokenizers/split_regex.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using nlohmann::json;
using testing::TestFolder;

constexpr const char* kFolder = "tests/data/tokenizers/";

const json& Cases() {
  static const json cases = json::parse(testing::ReadFile(std::string(kFolder) + "cases.json"));
  return cases;
}

std::vector<std::string> Texts() {
  std::vector<std::string> texts;
  for (const json& parts : Cases().at("texts")) {
    std::string& text = texts.emplace_back();
    for (const json& part : parts) {
      for (int i = part.at(1).get<int>(); i > 0; --i) {
        text += part.at(0).get<std::string>();
      }
    }
  }
  return texts;
}

// `5 6x3000`: a run stands once.
std::vector<int32_t> IdsOf(const std::string& runs) {
  std::vector<int32_t> ids;
  std::istringstream stream(runs);
  for (std::string run; stream >> run;) {
    const size_t times = run.find('x');
    const int count = times == std::string::npos ? 1 : std::stoi(run.substr(times + 1));
    ids.insert(ids.end(), static_cast<size_t>(count), std::stoi(run));
  }
  return ids;
}

std::vector<int32_t> Encoded(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids;
  tokenizer.Encode(text, ids);
  return ids;
}

class BpeOracleTest : public ::testing::TestWithParam<const char*> {};

TEST_P(BpeOracleTest, IdsAreTheLibrarys) {
  const std::string file = GetParam();
  const std::vector<std::string> texts = Texts();
  const json& expected = Cases().at("expected").at(file);
  ASSERT_EQ(expected.at("plain").size(), texts.size());
  ASSERT_FALSE(expected.at("special").empty());
  const auto text = OpenTokenizer(kFolder + file);
  const auto tokens = OpenTokenizer(kFolder + file, SpecialTokens::kTokens);
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<int32_t> plain = IdsOf(expected.at("plain").at(i).get<std::string>());
    EXPECT_EQ(Encoded(*text, texts[i]), plain) << file << ": text " << i << ": " << texts[i].substr(0, 100);
    const auto special = expected.at("special").find(std::to_string(i));
    EXPECT_EQ(Encoded(*tokens, texts[i]),
              special == expected.at("special").end() ? plain : IdsOf(special->get<std::string>()))
        << file << ": with special tokens, text " << i << ": " << texts[i].substr(0, 100);
  }
}

TEST(BpeWordsTest, AreTheLibrarys) {
  const std::vector<std::string> texts = Texts();
  const json& expressions = Cases().at("words");
  ASSERT_GE(expressions.size(), 10U);
  RegexState state;
  for (const auto& [pattern, expected] : expressions.items()) {
    const SplitRegex regex(pattern, "test");
    ASSERT_EQ(expected.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      std::vector<int32_t> bytes;
      regex.ForEachPart(
          texts[i], state, [&](std::string_view word) { bytes.push_back(static_cast<int32_t>(word.size())); });
      EXPECT_EQ(bytes, IdsOf(expected.at(i).get<std::string>()))
          << pattern << ": text " << i << ": " << texts[i].substr(0, 100);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files,
                         BpeOracleTest,
                         ::testing::Values("gpt2.json",
                                           "prefix.json",
                                           "neox.json",
                                           "qwen2.json",
                                           "llama3.json",
                                           "o200k.json",
                                           "digits.json",
                                           "several.json",
                                           "bytes.json",
                                           "small.tiktoken"),
                         [](const auto& file) {
                           const std::string name = file.param;
                           return name.substr(0, name.find('.'));
                         });

TEST(BpeTokenizerTest, ByteLevelWithoutMergesIsTheBytesThemselves) {
  const auto tokenizer = OpenTokenizer(std::string(kFolder) + "bytes.json");
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->eos_id(), 256);
}

TEST(BpeTokenizerTest, TextComesBack) {
  for (const char* file : {"gpt2.json", "llama3.json", "digits.json", "several.json", "bytes.json"}) {
    for (const SpecialTokens special : {SpecialTokens::kText, SpecialTokens::kTokens}) {
      const auto tokenizer = OpenTokenizer(std::string(kFolder) + file, special);
      for (const std::string& text : Texts()) {
        const bool has_eos = special == SpecialTokens::kTokens && text.find("<|endoftext|>") != std::string::npos;
        if (!has_eos) {  // the end of a document stands for no text
          EXPECT_EQ(tokenizer->Decode(Encoded(*tokenizer, text)), text) << file;
        }
      }
      EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{static_cast<int32_t>(tokenizer->eos_id())}), "");
      EXPECT_KSA_ERROR(
          static_cast<void>(tokenizer->Decode(std::vector<int32_t>{static_cast<int32_t>(tokenizer->vocab_size())})),
          ExitCode::kBadData,
          "outside the vocabulary");
    }
  }
}

// A character may lie in several tokens: its bytes come out one token after another.
TEST(BpeTokenizerTest, DecodingGoesByBytes) {
  const auto tokenizer = OpenTokenizer(std::string(kFolder) + "bytes.json");
  const std::vector<int32_t> ids = Encoded(*tokenizer, "\xE4\xB8\xAD");
  ASSERT_EQ(ids.size(), 3U);
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{ids[0]}), "\xE4");
  EXPECT_EQ(DecodeBehind(*tokenizer, ids, 1), "\xB8\xAD");
}

TEST(BpeTokenizerTest, TextThatGoesOnGetsNoPrefix) {
  const auto tokenizer = OpenTokenizer(std::string(kFolder) + "prefix.json");
  std::vector<int32_t> ids = Encoded(*tokenizer, "the summary");
  tokenizer->EncodeRest(" of a window", ids);
  EXPECT_EQ(ids, Encoded(*tokenizer, "the summary of a window"));
  EXPECT_EQ(ids, Encoded(*tokenizer, " the summary of a window"));
}

TEST(BpeTokenizerTest, ManyThreadsShareOne) {
  const auto tokenizer = OpenTokenizer(std::string(kFolder) + "qwen2.json");
  const std::vector<std::string> texts = Texts();
  std::vector<std::vector<int32_t>> expected;
  for (const std::string& text : texts) {
    expected.push_back(Encoded(*tokenizer, text));
  }
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < texts.size(); ++i) {
        const size_t at = (i + 7 * t) % texts.size();
        wrong[t] += Encoded(*tokenizer, texts[at]) == expected[at] ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST(BpeTokenizerTest, FilesSayWhatTheyAre) {
  const TestFolder folder;
  const std::string contents = testing::ReadFile(std::string(kFolder) + "qwen2.json");
  testing::WriteFile(folder / "model.bin", contents);
  const auto opened = OpenTokenizer(folder / "model.bin");
  EXPECT_EQ(opened->file_name(), "tokenizer.json");
  EXPECT_EQ(opened->file_contents(), contents);
  const std::string ranks = testing::ReadFile(std::string(kFolder) + "small.tiktoken");
  testing::WriteFile(folder / "tokenizer.model", ranks);
  const auto rank_file = OpenTokenizer(folder / "tokenizer.model");
  EXPECT_EQ(rank_file->file_name(), "tokenizer.tiktoken");
  EXPECT_EQ(rank_file->file_contents(), ranks);
  EXPECT_EQ(rank_file->Decode(std::vector<int32_t>{static_cast<int32_t>(rank_file->vocab_size()) - 1}), "<|im_end|>");
  EXPECT_KSA_ERROR(static_cast<void>(OpenTokenizer("byte", SpecialTokens::kTokens)), ExitCode::kUsage, "--special");
}

TEST(BpeTokenizerTest, TheEndOfADocument) {
  const TestFolder folder;
  json file = json::parse(testing::ReadFile(std::string(kFolder) + "bytes.json"));
  const auto write = [&](const std::string& content) {
    file["added_tokens"][0]["content"] = content;
    testing::WriteFile(folder / "tokenizer.json", file.dump());
  };
  const auto config = [&](const json& eos) {
    testing::WriteFile(folder / "tokenizer_config.json", json({{"eos_token", eos}}).dump());
  };
  write("<|end_of_text|>");
  EXPECT_EQ(OpenTokenizer(folder / "tokenizer.json")->eos_id(), 256);
  EXPECT_EQ(OpenTokenizer(folder / "tokenizer.json")->file_contents(), file.dump());
  write("</s>");
  EXPECT_KSA_ERROR(
      static_cast<void>(OpenTokenizer(folder / "tokenizer.json")), ExitCode::kBadData, "no tokenizer_config.json");
  config("</d>");
  EXPECT_KSA_ERROR(static_cast<void>(OpenTokenizer(folder / "tokenizer.json")), ExitCode::kBadData, "'</d>'");
  config(5);
  EXPECT_KSA_ERROR(
      static_cast<void>(OpenTokenizer(folder / "tokenizer.json")), ExitCode::kBadData, "no tokenizer_config.json");
  for (const json& eos : {json("</s>"), json({{"content", "</s>"}, {"lstrip", false}})}) {
    config(eos);
    const auto tokenizer = OpenTokenizer(folder / "tokenizer.json");
    EXPECT_EQ(tokenizer->eos_id(), 256);
    // The copy works without the file beside it.
    testing::WriteFile(folder / "copy.json", tokenizer->file_contents());
    const auto copy = OpenTokenizer(folder / "copy.json");
    EXPECT_EQ(copy->eos_id(), 256);
    EXPECT_EQ(copy->Xxh3(), tokenizer->Xxh3());
    EXPECT_EQ(Encoded(*copy, "text"), Encoded(*tokenizer, "text"));
  }
}

}  // namespace
}  // namespace ksa
