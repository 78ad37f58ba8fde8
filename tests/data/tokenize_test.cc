#include "data/tools/tokenize.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "data/tools/text_reader.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;
using testing::TextsOf;
using Texts = std::vector<std::string>;

class TokenizeTest : public ::testing::Test {
 protected:
  // Tokenizes the texts, one file each, and gives the documents back.
  Texts Run(const Texts& files, Documents documents, const std::string& field = "") {
    TokenizeOptions options = Options(files);
    options.encode.documents = documents;
    options.encode.jsonl_field = field;
    static_cast<void>(TokenizeText(options));
    return TextsOf(options.output);
  }

  TokenizeOptions Options(const Texts& files) {
    TokenizeOptions options;
    for (const std::string& text : files) {
      options.inputs.push_back(folder_ / fmt::format("input-{}.txt", inputs_++));
      testing::WriteFile(options.inputs.back(), text);
    }
    options.output = folder_ / fmt::format("out-{}", outputs_++);
    return options;
  }

  TestFolder folder_;
  int inputs_ = 0;
  int outputs_ = 0;
};

// --- what a document is

TEST_F(TokenizeTest, Lines) {
  EXPECT_EQ(Run({"one\ntwo\r\n\n\nthree"}, Documents::kLine), Texts({"one", "two", "three"}));
  EXPECT_EQ(Run({"\xEF\xBB\xBFmarked\n", "", "second file\n"}, Documents::kLine), Texts({"marked", "second file"}));
  EXPECT_EQ(Run({" \n\t\n"}, Documents::kLine), Texts({" ", "\t"}));
}

TEST_F(TokenizeTest, Files) {
  EXPECT_EQ(Run({"a\n\nb\n", "", "c"}, Documents::kFile), Texts({"a\n\nb\n", "c"}));
}

TEST_F(TokenizeTest, BlankLines) {
  EXPECT_EQ(Run({"\n\na\nb\n\n\n\r\nc\r\nd\r\n\r\ne"}, Documents::kBlankLine), Texts({"a\nb", "c\r\nd", "e"}));
  EXPECT_EQ(Run({"a\n", "b\n\n"}, Documents::kBlankLine), Texts({"a", "b"}));
}

TEST_F(TokenizeTest, JsonLines) {
  const std::string lines =
      "{\"id\": 1, \"text\": \"plain\"}\n"
      "\n"
      "{\"text\": \"esc\\n\\\"\\u00e9\\ud83d\\ude00\", \"more\": {\"text\": 3, \"list\": [1, {\"text\": \"no\"}]}}\r\n"
      "{\"text\": \"\"}\n"
      "{\"meta\": [\"text\"], \"text\": \"last\"}";
  EXPECT_EQ(Run({lines}, Documents::kJsonLine, "text"), Texts({"plain", "esc\n\"\xC3\xA9\xF0\x9F\x98\x80", "last"}));
}

TEST_F(TokenizeTest, BadJsonLinesAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{\"text\": 3}", "not a string"},
      {"{\"text\": {\"a\": 1}}", "not a string"},
      {"{\"other\": \"x\"}", "no field 'text'"},
      {"[\"text\"]", "object"},
      {"\"text\"", "object"},
      {"{\"text\": \"x\"", "not JSON"},
      {"{\"text\": \"x\"} tail", "not JSON"},
      {"{\"text\": \"\\ud800\"}", "half a character"},
      {"{\"text\": \"a\", \"text\": \"b\"}", "twice"},
  };
  for (const auto& [line, problem] : cases) {
    TokenizeOptions options = Options({"{\"text\": \"good\"}\n\n" + line + "\n{\"text\": \"good\"}\n"});
    options.encode.documents = Documents::kJsonLine;
    options.encode.jsonl_field = "text";
    const Error error = testing::ErrorOf([&] { static_cast<void>(TokenizeText(options)); });
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    EXPECT_NE(std::string(error.what()).find(options.inputs[0] + ":3: byte 18: "), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(problem), std::string::npos) << error.what();
    EXPECT_FALSE(std::filesystem::exists(options.output));
  }
}

// --- long inputs: pieces, threads, shards

std::string RandomText(size_t bytes, unsigned seed, const Texts& alphabet) {
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < bytes) {
    text += alphabet[random() % alphabet.size()];
  }
  return text;
}

// All documents of a text, found naively on the whole.
Texts NaiveDocuments(const std::string& text, Documents documents) {
  Texts lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, newline - begin));
    begin = newline + 1;
  }
  if (documents == Documents::kFile) {
    return {text};
  }
  Texts result;
  bool joined = false;
  for (const std::string& line : lines) {
    if (line.empty()) {
      joined = false;
    } else if (documents == Documents::kBlankLine && joined) {
      result.back() += "\n" + line;
    } else {
      result.push_back(line);
      joined = true;
    }
  }
  return result;
}

// Pieces of a few bytes, so that documents, characters and line breaks are cut everywhere.
TEST(TextReader, PiecesOfAnySizeGiveTheSameDocuments) {
  const TestFolder folder;
  const auto tokenizer = MakeByteTokenizer();
  for (unsigned seed = 0; seed < 60; ++seed) {
    const std::string text = RandomText(400, seed, {"a", "bc", "\n", "\xC3\xA9", "\xF0\x9F\x98\x80", " ", "\n\n", "d"});
    testing::WriteFile(folder / "t", text);
    for (const Documents documents : {Documents::kLine, Documents::kBlankLine, Documents::kFile}) {
      for (const size_t piece_bytes : {7U, 16U, 33U, 200U, 1000U}) {
        TextReader reader({folder / "t"}, documents, seed % 2 == 0, piece_bytes);
        TextPiece piece;
        EncodedPiece encoded;
        Texts found;
        bool open = false;
        std::string joined;
        EncodeOptions options;
        options.documents = documents;
        while (reader.Next(piece)) {
          joined += piece.text;
          EncodePiece(*tokenizer, options, piece, encoded);
          ASSERT_EQ(encoded.error, "");
          size_t begin = 0;
          for (const EncodedPart& part : encoded.parts) {
            if (!open) {
              found.emplace_back();
            }
            found.back() += tokenizer->Decode(std::span(encoded.tokens).subspan(begin, part.token_end - begin));
            begin = part.token_end;
            open = !part.ends;
          }
        }
        ASSERT_FALSE(open);
        ASSERT_EQ(joined, text);
        const Texts expected = NaiveDocuments(text, documents);
        if (documents == Documents::kBlankLine && text.ends_with('\n')) {
          ASSERT_EQ(found.size(), expected.size());
        }
        ASSERT_EQ(found, expected) << "seed " << seed << ", pieces of " << piece_bytes;
      }
    }
  }
}

std::string FolderContents(const std::string& folder) {
  Texts files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  std::string all;
  for (const std::string& file : files) {
    all += file.substr(folder.size()) + "\n" + testing::ReadFile(file);
  }
  return all;
}

TEST_F(TokenizeTest, OneAndThreeThreadsGiveIdenticalShards) {
  TokenizeOptions options = Options({RandomText(3'000'000, 1, {"word ", "x\n", "\xE2\x82\xAC", "line\n", "\n"}),
                                     RandomText(2'500'000, 2, {"other ", "y\n"})});
  options.validation_fraction = 0.1;
  options.shards = 3;
  Texts contents;
  for (const int threads : {1, 3}) {
    options.threads = threads;
    options.output = folder_ / fmt::format("threads-{}/out", threads);
    const TokenizeSummary summary = TokenizeText(options);
    EXPECT_EQ(summary.shards, 3);
    contents.push_back(FolderContents(options.output));
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // nor may the time of writing stand in the files
  }
  EXPECT_TRUE(contents[0] == contents[1]);
  const ShardFolder train(options.output + "/train");
  int64_t smallest = INT64_MAX;
  for (const TokenShard& shard : train.shards()) {
    smallest = std::min(smallest, shard.tokens());
    shard.Verify();
  }
  EXPECT_GT(smallest, train.index().tokens() / 4);
}

TEST_F(TokenizeTest, ALineOfManyMegabytesIsOneDocument) {
  const std::string line = RandomText(5'000'001, 3, {"abc", "\xC3\xA9", " "});
  TokenizeOptions options = Options({"first\n" + line + "\nlast\n"});
  options.threads = 2;
  static_cast<void>(TokenizeText(options));
  EXPECT_TRUE(TextsOf(options.output) == Texts({"first", line, "last"}));
}

TEST_F(TokenizeTest, FewerDocumentsThanShardsGiveFewerShards) {
  TokenizeOptions options = Options({std::string(1000, 'a') + "\nb\n"});
  options.shards = 8;
  EXPECT_EQ(TokenizeText(options).shards, 2);
  EXPECT_TRUE(std::filesystem::exists(options.output + "/out-0-00001-of-00002.h5"));
}

// --- the validation part

TEST_F(TokenizeTest, HoldsDocumentsOutByTheirNumber) {
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    text += fmt::format("document {}\n", i);
  }
  TokenizeOptions options = Options({text});
  options.validation_fraction = 0.05;
  const TokenizeSummary summary = TokenizeText(options);
  EXPECT_EQ(summary.train_documents + summary.validation_documents, 2000);
  EXPECT_NEAR(static_cast<double>(summary.validation_documents), 100, 40);  // 4 standard deviations
  const Texts train = TextsOf(options.output + "/train");
  const Texts validation = TextsOf(options.output + "/validation");
  size_t t = 0;
  size_t v = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string expected = fmt::format("document {}", i);
    ASSERT_EQ(IsHeldOut(i, 0.05) ? validation.at(v++) : train.at(t++), expected);
  }
}

TEST_F(TokenizeTest, BothPartsNeedADocument) {
  TokenizeOptions options = Options({"only one\n"});
  options.validation_fraction = 0.5;
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kBadData, "each part needs");
  EXPECT_FALSE(std::filesystem::exists(options.output));
}

// --- bad input

TEST_F(TokenizeTest, InvalidUtf8IsNamedOrReplaced) {
  TokenizeOptions options = Options({"good\ngood \x92 bad\n"});
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kBadData, ":2: byte 10: not UTF-8 (byte 0x92)");
  options.encode.invalid_utf8 = InvalidUtf8::kReplace;
  static_cast<void>(TokenizeText(options));
  EXPECT_EQ(TextsOf(options.output), Texts({"good", "good \xEF\xBF\xBD bad"}));
}

TEST_F(TokenizeTest, InvalidUtf8FarIntoAFileHasItsOffsetInTheFile) {
  const std::string start = RandomText(3'000'000, 4, {"line of text\n"});
  TokenizeOptions options = Options({start + "\xFF\n"});
  options.threads = 3;
  const auto lines = std::count(start.begin(), start.end(), '\n');
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kBadData, fmt::format(":{}: byte {}:", lines + 1, start.size()));
}

TEST_F(TokenizeTest, NothingToTokenize) {
  TokenizeOptions options = Options({""});
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kBadData, "empty");
  options = Options({"\n\n\n"});
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kBadData, "no document");
  options.inputs = {folder_ / "absent.txt"};
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kMissingInput, "absent.txt");
  options = Options({"text\n"});
  options.tokenizer = folder_ / "absent.model";
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kMissingInput, "absent.model");
  options.tokenizer = options.inputs[0];
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kBadData, "SentencePiece");
  options.validation_fraction = 1.5;
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kUsage, "fraction");
}

TEST_F(TokenizeTest, RefusesToOverwrite) {
  const TokenizeOptions options = Options({"text\n"});
  static_cast<void>(TokenizeText(options));
  const std::string before = FolderContents(options.output);
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kCannotCreate, options.output);
  EXPECT_TRUE(FolderContents(options.output) == before);
}

}  // namespace
}  // namespace ksa
