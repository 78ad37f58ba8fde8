// What --input stands for, and JSON as other programs write it.
#include "data/tools/input_files.h"

#include <sys/stat.h>

#include <ctime>

#include <gtest/gtest.h>

#include "data/tools/json_field.h"
#include "data/tools/text_reader.h"
#include "data/tools/tokenize.h"
#include "data/tools/train_tokenizer.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

TEST(InputFiles, AFolderStandsForAllBelowItButHiddenFilesAndBackups) {
  const TestFolder folder;
  fs::create_directories(folder / "n/sub/deeper");
  fs::create_directories(folder / "n/.git");
  fs::create_directories(folder / "elsewhere");
  for (const char* name : {"n/top.txt", "n/sub/n.txt", "n/sub/deeper/d", "n/.hidden", "n/top.txt~", "n/.git/HEAD"}) {
    testing::WriteFile(folder / name, "x");
  }
  testing::WriteFile(folder / "elsewhere/linked.txt", "x");
  fs::create_directory_symlink("../elsewhere", folder / "n/a-link");
  ASSERT_EQ(mkfifo((folder / "n/pipe").c_str(), 0600), 0);
  const InputFiles found = ListInputFiles({folder / "n", folder / "n/top.txt"});
  EXPECT_EQ(found.files,
            Names({folder / "n/a-link/linked.txt",
                   folder / "n/sub/deeper/d",
                   folder / "n/sub/n.txt",
                   folder / "n/top.txt",
                   folder / "n/top.txt"}));
  EXPECT_EQ(found.left_out, Names({folder / "n/.git", folder / "n/.hidden", folder / "n/pipe", folder / "n/top.txt~"}));
  EXPECT_EQ(Describe(found),
            fmt::format(" of 5 files (4 left out, hidden or backup or no files: {}, {}, {}, …)",
                        folder / "n/.git",
                        folder / "n/.hidden",
                        folder / "n/pipe"));
  EXPECT_EQ(Describe({{"a"}, {}}), "");
}

TEST(InputFiles, WhatCannotBeReadIsNamed) {
  const TestFolder folder;
  fs::create_directories(folder / "f/sub");
  EXPECT_KSA_ERROR(ListInputFiles({folder / "f"}), ExitCode::kBadData, "no file");
  EXPECT_KSA_ERROR(ListInputFiles({folder / "none"}), ExitCode::kMissingInput, "no such");
  EXPECT_KSA_ERROR(ListInputFiles({folder / std::string(300, 'x')}), ExitCode::kMissingInput, "name too long");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_KSA_ERROR(ListInputFiles({folder / "pipe"}), ExitCode::kMissingInput, "regular files");
  fs::create_symlink("loop", folder / "loop");
  EXPECT_KSA_ERROR(ListInputFiles({folder / "loop"}), ExitCode::kMissingInput, "symbolic links");
  fs::create_directory_symlink("..", folder / "f/sub/up");
  EXPECT_KSA_ERROR(ListInputFiles({folder / "f"}), ExitCode::kMissingInput, "a folder that it lies in");
  fs::remove(folder / "f/sub/up");
  fs::create_symlink("nowhere", folder / "f/dangling");
  EXPECT_KSA_ERROR(ListInputFiles({folder / "f"}), ExitCode::kMissingInput, "leads nowhere");
  fs::remove(folder / "f/dangling");
  fs::permissions(folder.path(), fs::perms(0755));
  fs::permissions(folder / "f", fs::perms::none);
  const testing::AsNobody nobody;
  EXPECT_KSA_ERROR(ListInputFiles({folder / "f"}), ExitCode::kIo, "Permission denied");
  EXPECT_KSA_ERROR(ListInputFiles({folder / "f/a.txt"}), ExitCode::kIo, "Permission denied");
  EXPECT_KSA_ERROR(OpenTokenizer(folder / "f/x.model"), ExitCode::kIo, "Permission denied");
}

// The name of a file tells that it is JSON, however it was found.
TEST(InputFiles, JsonNeedsAField) {
  const TestFolder folder;
  fs::create_directories(folder / "f");
  for (const char* name : {"a.jsonl", "a.JSONL", "a.json", "a.ndjson"}) {
    testing::WriteFile(folder / (std::string("f/") + name), "{\"text\": \"hi\"}\n");
    TokenizeOptions options;
    options.inputs = {folder / "f"};
    options.output = folder / "out";
    EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kUsage, "--jsonl-field");
    TrainTokenizerOptions train;
    train.inputs = options.inputs;
    train.output = folder / "m.model";
    EXPECT_KSA_ERROR(TrainTokenizer(train), ExitCode::kUsage, "--jsonl-field");
    fs::remove(folder / (std::string("f/") + name));
  }
}

// --- JSON

std::string FieldOf(const std::string& json, bool replace = false) {
  std::string value;
  const std::string error = FindJsonField(json, "text", replace, value);
  return error.empty() ? "=" + value : error;
}

TEST(JsonField, TakesWhatPythonWrites) {
  EXPECT_EQ(FieldOf(R"({"title": "\ud83d", "text": "ok"})"), "=ok");
  EXPECT_EQ(FieldOf(R"({"score": NaN, "low": -Infinity, "high": [Infinity], "text": "ok"})"), "=ok");
  EXPECT_EQ(FieldOf(R"({"n": 1e400, "m": -0.5E-999, "k": 123456789012345678901234567890, "text": "ok"})"), "=ok");
  EXPECT_EQ(FieldOf(R"({"a": {"b": [{}, [], {"text": "no", "c": [1, 2, {"d": null}]}], "e": true}, "text": "ok"})"),
            "=ok");
  EXPECT_EQ(FieldOf(R"( { "text" : "a\u0000b\/\b\f\n\r\t\"\\ é \u00e9 \ud83d\ude00" } )"),
            "=a" + std::string(1, '\0') + "b/\b\f\n\r\t\"\\ é é 😀");
  EXPECT_EQ(FieldOf(R"({"\u0074ext": "ok"})"), "=ok");  // a key may be escaped, too
}

TEST(JsonField, HalfACharacterIsNamedOrReplaced) {
  EXPECT_EQ(FieldOf(R"({"text": "a\ud83d b"})"),
            "\\ud83d at byte 11 of the line is half a character; `--invalid-utf8 replace` puts U+FFFD in its place");
  EXPECT_EQ(FieldOf(R"({"text": "a\ud83d b"})", true), "=a\xEF\xBF\xBD b");
  EXPECT_EQ(FieldOf(R"({"text": "\ude00\ud83d\ud83d\ude00\ud83dx"})", true),
            "=\xEF\xBF\xBD\xEF\xBF\xBD\xF0\x9F\x98\x80\xEF\xBF\xBDx");
}

TEST(JsonField, RefusesWhatIsNoJson) {
  const auto expect = [](const std::string& json, const char* part) {
    EXPECT_NE(FieldOf(json).find(part), std::string::npos) << json << ": " << FieldOf(json);
  };
  expect(std::string("{\"text\":\"a\"}\0garbage{{{", 22), "not JSON: the end of the line was expected at byte 12");
  expect(std::string("{\"text\":\"a\0b\"}", 14), "0x00");
  expect("{\"text\": \"a\tb\"}", "a control character (0x09)");
  expect("{\"a\": tru, \"text\": \"x\"}", "a value was expected at byte 6");
  expect("{\"a\": 01, \"text\": \"x\"}", "not JSON");
  expect("{\"a\": 1., \"text\": \"x\"}", "a digit");
  expect("{\"a\": -, \"text\": \"x\"}", "not JSON");
  expect("{\"a\": [1, 2}, \"text\": \"x\"}", "',' or ']' was expected");
  expect("{\"a\": {\"b\" 1}, \"text\": \"x\"}", "':' was expected");
  expect("{\"a\": [1,], \"text\": \"x\"}", "a value");
  expect("{\"text\": \"x\",}", "a string was expected");
  expect("{\"text\": \"x", "the line ends");
  expect("{\"text\": \"\\x\"}", "an escape");
  expect("{\"text\": \"\\u12g4\"}", "hexadecimal");
  expect("[1]", "a JSON object was expected");
  expect("{\"a\": " + std::string(1 << 17, '['), "nested deeper");
}

// A line that never ends costs time in proportion to its length, however small the pieces that it is read in.
TEST(TextReader, ALongLineIsLookedThroughOnce) {
  const TestFolder folder;
  testing::WriteFile(folder / "long", "{\"text\": \"" + std::string(6'000'000, 'x') + "\"}\n{\"text\": \"y\"}\n");
  TextReader reader({folder / "long"}, Documents::kJsonLine, false, 16);
  TextPiece piece;
  const std::clock_t begin = std::clock();
  ASSERT_TRUE(reader.Next(piece));
  EXPECT_GT(piece.text.size(), 6'000'000U);
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 15.0);  // of CPU; minutes when it is quadratic
}

TEST(TextReader, ALineThatIsNoObjectIsGivenUpAtItsFirstByte) {
  const TestFolder folder;
  testing::WriteFile(folder / "array", "[" + std::string(500'000, ' ') + "]\n");
  TextReader reader({folder / "array"}, Documents::kJsonLine, false, 1000);
  TextPiece piece;
  ASSERT_TRUE(reader.Next(piece));
  EXPECT_EQ(piece.text.size(), 1000U);
  TokenizeOptions options;
  options.inputs = {folder / "array"};
  options.output = folder / "out";
  options.encode.documents = Documents::kJsonLine;
  options.encode.jsonl_field = "text";
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kBadData, ":1: byte 0: a JSON object was expected");
}

}  // namespace
}  // namespace ksa
