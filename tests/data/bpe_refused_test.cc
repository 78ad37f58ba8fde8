// Files of tokenizers that are not understood are refused by what is wrong with them; damaged ones never crash.
#include <functional>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/tokenizers/split_regex.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using nlohmann::json;
using testing::TestFolder;

constexpr const char* kQwen2 = "tests/data/tokenizers/qwen2.json";
constexpr const char* kRanks = "tests/data/tokenizers/small.tiktoken";

struct Refused {
  const char* what;
  std::function<void(json&)> change;
  const char* message;
};

json Added(int id, const std::string& content) {
  return {{"id", id},
          {"content", content},
          {"single_word", false},
          {"lstrip", false},
          {"rstrip", false},
          {"normalized", false},
          {"special", false}};
}

json& FirstSplit(json& file) {
  return file["pre_tokenizer"]["pretokenizers"][0];
}

std::vector<Refused> RefusedModels() {
  return {
      {"WordPiece", [](json& f) { f["model"]["type"] = "WordPiece"; }, "model.type: 'WordPiece'"},
      {"dropout", [](json& f) { f["model"]["dropout"] = 0.1; }, "model.dropout: 0.1"},
      {"byte fallback", [](json& f) { f["model"]["byte_fallback"] = true; }, "model.byte_fallback"},
      {"suffix", [](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }, "model.end_of_word_suffix: \"</w>\""},
      {"prefix", [](json& f) { f["model"]["continuing_subword_prefix"] = 5; }, "model.continuing_subword_prefix: 5"},
      {"a new key", [](json& f) { f["model"]["cutoff"] = 1; }, "model: the key 'cutoff'"},
      {"a flag that is none", [](json& f) { f["model"]["ignore_merges"] = "no"; }, "'ignore_merges' is string"},
      {"no vocabulary", [](json& f) { f["model"].erase("vocab"); }, "'vocab' is missing"},
      {"a list for a vocabulary",
       [](json& f) {
         f["model"]["vocab"] = {1, 2};
       },
       "model.vocab: is array"},
      {"no byte",
       [](json& f) { f["model"]["vocab"].erase("A"), f["model"]["vocab"]["AA"] = 32; },
       "the byte 0x41, 'A'"},
      {"a hole", [](json& f) { f["model"]["vocab"]["the"] = 5000; }, "'the': the id is 5000"},
      {"an id twice", [](json& f) { f["model"]["vocab"]["the"] = 7; }, "the id 7"},
      {"a negative id", [](json& f) { f["model"]["vocab"]["the"] = -1; }, "the id is -1"},
      {"a huge id", [](json& f) { f["model"]["vocab"]["the"] = UINT64_MAX; }, "the id is 18446744073709551615"},
      {"an id that is a text", [](json& f) { f["model"]["vocab"]["the"] = "7"; }, "the id is \"7\""},
      {"an unknown part",
       [](json& f) {
         f["model"]["merges"][0] = {"a", "nobody"};
       },
       "number 0 names the token 'nobody'"},
      {"an unknown whole", [](json& f) { f["model"]["merges"].push_back("Z Z"); }, "names the token 'ZZ'"},
      {"three parts", [](json& f) { f["model"]["merges"][3] = "a b c"; }, "number 3: 'a b c' is no pair"},
      {"a number", [](json& f) { f["model"]["merges"][3] = 7; }, "number 3: is number, not a text"},
      {"a merge twice", [](json& f) { f["model"]["merges"].push_back(f["model"]["merges"][1]); }, "again"},
      {"no merges", [](json& f) { f["model"]["merges"] = json(); }, "model.merges: is null"},
  };
}

std::vector<Refused> RefusedRest() {
  return {
      {"a new key", [](json& f) { f["ksa"] = 1; }, "the file: the key 'ksa'"},
      {"no model", [](json& f) { f.erase("model"); }, "'model' is missing"},
      {"a normalizer", [](json& f) { f["normalizer"]["type"] = "Lowercase"; }, "normalizer: 'Lowercase'"},
      {"one of several normalizers",
       [](json& f) {
         f["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFKC"}}}}};
       },
       "normalizer: 'NFKC'"},
      {"no pre-tokenizer", [](json& f) { f["pre_tokenizer"] = json(); }, "pre_tokenizer: 'null'"},
      {"a pre-tokenizer",
       [](json& f) {
         FirstSplit(f) = {{"type", "Metaspace"}};
       },
       "pre_tokenizer: 'Metaspace'"},
      {"not byte-level", [](json& f) { f["pre_tokenizer"]["pretokenizers"].erase(1); }, "has no ByteLevel"},
      {"behind ByteLevel",
       [](json& f) {
         f["pre_tokenizer"]["pretokenizers"].push_back({{"type", "Digits"}, {"individual_digits", true}});
       },
       "'Digits' behind ByteLevel"},
      {"a behavior", [](json& f) { FirstSplit(f)["behavior"] = "Removed"; }, "behavior 'Removed'"},
      {"inverted", [](json& f) { FirstSplit(f)["invert"] = true; }, "invert true"},
      {"no expression",
       [](json& f) {
         FirstSplit(f)["pattern"] = {{"String", " "}};
       },
       "only one 'Regex'"},
      {"a broken expression", [](json& f) { FirstSplit(f)["pattern"]["Regex"] = "(?:a"; }, "a group without end"},
      {"too many expressions",
       [](json& f) {
         json& list = f["pre_tokenizer"]["pretokenizers"];
         list.insert(list.begin(), 40, FirstSplit(f));
       },
       "more than 32"},
      {"a space for each word",
       [](json& f) { f["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; },
       "add_prefix_space behind another"},
      {"a decoder", [](json& f) { f["decoder"]["type"] = "Metaspace"; }, "decoder: 'Metaspace'"},
      {"two decoders",
       [](json& f) {
         f["decoder"] = {{"type", "Sequence"}, {"decoders", {f["decoder"], f["decoder"]}}};
       },
       "decoder: 'Sequence'"},
      {"no decoder", [](json& f) { f["decoder"] = json(); }, "decoder: 'null'"},
      {"an added hole", [](json& f) { f["added_tokens"].push_back(Added(999, "<x>")); }, "'<x>': the id is 999"},
      {"an added token of another id",
       [](json& f) { f["added_tokens"].push_back(Added(3, "<x>")); },
       "'<x>': has the id 3"},
      {"an added token that is there already",
       [](json& f) { f["added_tokens"].push_back(f["added_tokens"][0]); },
       "is there twice"},
      {"an added token without flags", [](json& f) { f["added_tokens"][0].erase("lstrip"); }, "'lstrip' is missing"},
      {"an added token of a new kind", [](json& f) { f["added_tokens"][0]["hidden"] = true; }, "the key 'hidden'"},
      {"an added token without text", [](json& f) { f["added_tokens"][4]["content"] = ""; }, "a token of 0 bytes"},
      {"an added token that is long",
       [](json& f) { f["added_tokens"][4]["content"] = std::string(5000, 'x'); },
       "a token of 5000 bytes"},
      {"white space that two tokens take",
       [](json& f) { f["added_tokens"][3]["rstrip"] = true, f["added_tokens"][4]["content"] = " x"; },
       "rstrip"},
      {"no end of a document",
       [](json& f) { f["added_tokens"][0]["content"] = "<end>"; },
       "which token ends a document"},
  };
}

void ExpectRefused(const std::vector<Refused>& cases) {
  const json good = json::parse(testing::ReadFile(kQwen2));
  ASSERT_NO_THROW(static_cast<void>(MakeHuggingFaceTokenizer("t/tokenizer.json", good.dump())));
  for (const Refused& refused : cases) {
    SCOPED_TRACE(refused.what);
    json file = good;
    refused.change(file);
    EXPECT_KSA_ERROR(MakeHuggingFaceTokenizer("t/tokenizer.json", file.dump()), ExitCode::kBadData, refused.message);
    EXPECT_KSA_ERROR(
        MakeHuggingFaceTokenizer("t/tokenizer.json", file.dump()), ExitCode::kBadData, "t/tokenizer.json: ");
  }
}

TEST(BpeRefusedTest, ModelsByName) {
  ExpectRefused(RefusedModels());
}

TEST(BpeRefusedTest, EverythingElseByName) {
  ExpectRefused(RefusedRest());
}

TEST(BpeRefusedTest, WhatIsNoTokenizerAtAll) {
  for (const char* text : {"", "{", "[]", "{}", "7", "null", R"({"model": [], "pre_tokenizer": {}})", "\xFF\xFE"}) {
    EXPECT_KSA_ERROR(MakeHuggingFaceTokenizer("t.json", text), ExitCode::kBadData, "t.json");
  }
  std::string deep;
  for (int i = 0; i < 100000; ++i) {
    deep += R"({"model":)";
  }
  EXPECT_KSA_ERROR(MakeHuggingFaceTokenizer("t.json", deep), ExitCode::kBadData, "nested deeper");
}

// What means something else to PCRE2 than to the library that these files are written for, or nothing to either.
TEST(BpeRefusedTest, ExpressionsByWhatIsNotKnown) {
  for (const char* pattern :
       {"\\w+",     "\\h",      "\\b",           "(?i)a",   "(?<n>a)", "(?#c)a",   "a{1,3}+", "a{,3}",
        "a{3,1}",   "a**",      "[[:alpha:]]",   "[a&&b]",  "[a[b]]",  "[]",       "[^]",     "[z-a]",
        "[\\d-z]",  "[a-\\d]",  "\\p{Xan}",      "\\pL",    "\\p{L",   "(?i:\\d)", "(?i:ss)", "(?i:fish)",
        "(?i:(a))", "(?i:[a])", "(?i:\xC3\xA9)", "(?i:a+)", "(a",      "a)",       "[a",      "a\\",
        "\\1",      "\\k<a>",   "\\x{110000}",   "\\xFF",   "\\uD800", "*a",       "{2}",     "a{9999}",
        "\\Z",      "\\R",      "(?~a)",         "\xFF"}) {
    EXPECT_KSA_ERROR(SplitRegex(pattern, "where"), ExitCode::kBadData, "where: ");
  }
  for (const char* pattern : {"a*", "a?|b", "(?=a)", "^", "\\s*$"}) {
    EXPECT_KSA_ERROR(SplitRegex(pattern, "where"), ExitCode::kBadData, "matches the empty text");
  }
  EXPECT_KSA_ERROR(SplitRegex(std::string(200, '(') + "a", "where"), ExitCode::kBadData, "where: ");
}

// An expression that needs exponentially many steps ends with an error.
TEST(BpeRefusedTest, ExpressionsThatNeverEnd) {
  const SplitRegex regex("(?:(?:a|a)+)+[bc]", "where");
  RegexState state;
  size_t begin = 0;
  size_t end = 0;
  EXPECT_KSA_ERROR(regex.Find(std::string(200, 'a'), 0, state, begin, end), ExitCode::kBadData, "fails on this text");
}

TEST(BpeRefusedTest, RankFilesByLine) {
  const std::string good = testing::ReadFile(kRanks);
  ASSERT_NO_THROW(static_cast<void>(MakeRankTokenizer("r.tiktoken", good)));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos);
    return text.replace(at, from.size(), to);
  };
  const auto refused = [](const std::string& text, const char* message) {
    EXPECT_KSA_ERROR(MakeRankTokenizer("r.tiktoken", text), ExitCode::kBadData, message);
  };
  refused("", "no token for the byte 0x00");
  refused(with("\n", " 1\n"), "r.tiktoken:1: expected a token");
  refused(with("IQ== ", "IQ= "), "expected a token");
  refused(with("IQ== ", "I*== "), "expected a token");
  refused(with(" 5\n", " 4\n"), "rank 4 is there twice");
  refused(with(" 5\n", " 99999999999\n"), "rank 99999999999 is too large");
  refused(with(" 5\n", " 99999999999999999999999\n"), "expected a token");
  refused(good + "\n", "expected a token");
  refused(with("IQ== ", "IQ==  "), "expected a token");
  std::string known;
  for (int rank = 0; rank < 100256; ++rank) {
    known += fmt::format("{:04d} {}\n", rank % 10000, rank);
  }
  refused(known, "cl100k_base");
  std::string twice = good.substr(0, good.find('\n'));
  const size_t count = static_cast<size_t>(std::count(good.begin(), good.end(), '\n'));
  refused(good + twice.substr(0, twice.find(' ')) + fmt::format(" {}\n", count), "are the same token");
}

// Damaged files: some still open, the others are bad data. Never a crash, another error, or an endless read.
class Mutations {
 public:
  explicit Mutations(std::string good) : good_(std::move(good)) {}

  std::string Next() {
    std::string text = good_;
    for (int changes = 1 + static_cast<int>(random_() % 3); changes > 0; --changes) {
      Change(text);
    }
    return text;
  }

 private:
  void Change(std::string& text) {
    const size_t at = random_() % (text.size() + 1);
    const size_t bytes = std::min<size_t>(random_() % 40, text.size() - at);
    static const std::vector<std::string> kParts = {
        "\"",   "{",    "}",     "[",    "]",    ",",   ":",    "0",   "-1",        "99999999999",  "1e308", "null",
        "true", "\\u0", "\\ud8", "\xFF", "\xC3", "(?:", "\\p{", "{2}", "\"type\":", "\"Sequence\"", " ",     "\n"};
    switch (random_() % 5) {
      case 0:
        text.erase(at, bytes);
        break;
      case 1:
        text.insert(at, kParts[random_() % kParts.size()]);
        break;
      case 2:
        text.replace(at, bytes, kParts[random_() % kParts.size()]);
        break;
      case 3:
        text.insert(at, text.substr(random_() % text.size(), bytes));
        break;
      default:
        text.resize(at);
    }
  }

  std::string good_;
  std::mt19937 random_{20260101};
};

TEST(BpeRefusedTest, DamagedFilesAreBadDataOrTokenizers) {
  constexpr int kRounds = 1500;
  const std::string text = "the summary  of a <think> window\n\n\xE4\xB8\xAD cafe\xCC\x81 12345 <|endoftext|>";
  for (const char* path : {kQwen2, "tests/data/tokenizers/o200k.json", kRanks}) {
    const bool ranks = path == std::string(kRanks);
    Mutations mutations(testing::ReadFile(path));
    int opened = 0;
    for (int round = 0; round < kRounds; ++round) {
      const std::string damaged = mutations.Next();
      try {
        const auto tokenizer = ranks ? MakeRankTokenizer("t", damaged, SpecialTokens::kTokens)
                                     : MakeHuggingFaceTokenizer("t", damaged, SpecialTokens::kTokens);
        ++opened;
        std::vector<int32_t> ids;
        tokenizer->Encode(text, ids);
        for (const int32_t id : ids) {
          ASSERT_GE(id, 0);
          ASSERT_LT(id, tokenizer->vocab_size());
        }
        static_cast<void>(tokenizer->Decode(ids));
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ExitCode::kBadData) << path << ", round " << round << ": " << error.what();
      }
    }
    EXPECT_LT(opened, kRounds) << path;
  }
}

}  // namespace
}  // namespace ksa
