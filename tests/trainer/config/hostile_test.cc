// Input that is no configuration, or is made to hurt a parser.
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"

namespace ksa {
namespace {

// The report of a text on its own.
std::string ReportOf(const std::string& text) {
  try {
    static_cast<void>(ParseConfig(text, "t.yaml"));
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    return error.what();
  }
}

TEST(HostileConfig, NotAMapping) {
  const std::string sections =
      "expected a mapping of the sections run, model, data, training, optimizer, schedule, parallel, checkpoint, "
      "evaluation, logging, got ";
  EXPECT_EQ(ReportOf(""), "t.yaml:1:1: document: " + sections + "nothing");
  EXPECT_EQ(ReportOf("# only a comment\n"), "t.yaml:1:1: document: " + sections + "nothing");
  EXPECT_EQ(ReportOf("\n  just words\n"), "t.yaml:2:3: document: " + sections + "'just words'");
  EXPECT_EQ(ReportOf("[run, model]"), "t.yaml:1:1: document: " + sections + "a list");
}

TEST(HostileConfig, Binary) {
  EXPECT_EQ(ReportOf(std::string("run:\n a\0b", 9)),
            "t.yaml:2:3: document: byte 0x00 is not part of UTF-8 text; is this a configuration?");
  EXPECT_EQ(ReportOf("\x89HDF\r\n\x1a\n"),
            "t.yaml:1:1: document: byte 0x89 is not part of UTF-8 text; is this a configuration?");
  EXPECT_EQ(ReportOf("run: {name: \xff}"),
            "t.yaml:1:13: document: byte 0xff is not part of UTF-8 text; is this a configuration?");
  // An overlong '/', half a surrogate pair, a code point beyond the last, a character cut off.
  for (const std::string bytes : {"\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe4\xbd"}) {
    EXPECT_NE(ReportOf("run: {name: " + bytes + "}").find("t.yaml:1:13: document: byte 0x"), std::string::npos);
  }
}

TEST(HostileConfig, BadSyntaxSaysWhere) {
  const testing::Snippets snippets;
  for (const auto& [snippet, begin] : std::vector<std::pair<std::string, std::string>>{
           {"run: {seed: 3\n", "t.yaml:3:1: document: not valid YAML: "},
           {"run: {seed: *unknown}\n", "t.yaml:2:13: document: not valid YAML: "},
           {"run: }\n", "t.yaml:2:6: document: not valid YAML: "},
           {"run: a: b\n", "t.yaml:2:7: document: not valid YAML: "}}) {
    const std::string report = snippets.Report(snippet);
    EXPECT_TRUE(report.starts_with(begin)) << report;
    EXPECT_EQ(report.find('\n'), std::string::npos) << "nothing is known about the rest:\n" << report;
  }
}

TEST(HostileConfig, SelfReference) {
  const testing::Snippets snippets;
  EXPECT_EQ(snippets.Report("model: &m {attention: {pattern: &p [*p, *m]}}\n"),
            "t.yaml:2:8: model: anchors ('&name') are not supported; remove the anchor\n"
            "t.yaml:2:33: model.attention.pattern: anchors ('&name') are not supported; remove the anchor\n"
            "t.yaml:2:37: model.attention.pattern[0]: aliases ('*name') are not supported; write the value out\n"
            "t.yaml:2:41: model.attention.pattern[1]: aliases ('*name') are not supported; write the value out");
}

// A thousand million values from nine lines, if aliases were followed.
TEST(HostileConfig, AliasBomb) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) {
      text += (j > 0 ? ", *a" : "*a") + std::to_string(i - 1);
    }
    text += "]\n";
  }
  EXPECT_NE(ReportOf(text).find("aliases ('*name') are not supported"), std::string::npos);
}

TEST(HostileConfig, DeepNesting) {
  for (const size_t depth : {size_t{32}, size_t{100000}}) {
    const std::string report = ReportOf("run: " + std::string(depth, '['));
    EXPECT_NE(report.find("nested deeper than 32 levels"), std::string::npos) << report;
  }
  std::string maps;
  for (int i = 0; i < 40; ++i) {
    maps += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  }
  EXPECT_NE(ReportOf(maps).find("nested deeper than 32 levels"), std::string::npos);
}

TEST(HostileConfig, TooManyValues) {
  std::string list = "run: [0";
  for (int i = 0; i < 20000; ++i) {
    list += ",0";
  }
  EXPECT_NE(ReportOf(list + "]").find("more than 20000 values; a configuration is small"), std::string::npos);
}

TEST(HostileConfig, FileSize) {
  const testing::TemporaryFolder folder;
  const std::string base = testing::kBase;
  const std::string full = folder.Write("full.yaml", base + "#" + std::string((1 << 20) - base.size() - 1, 'x'));
  EXPECT_EQ(LoadConfig(full).config.run.name, "base");
  const std::string over = folder.Write("over.yaml", base + "#" + std::string((1 << 20) - base.size(), 'x'));
  try {
    static_cast<void>(LoadConfig(over));
    FAIL() << "a file over 1 MiB was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_EQ(folder.Strip(error.what()), "over.yaml: 1048577 bytes; a configuration has at most 1048576");
  }
}

TEST(HostileConfig, MissingFile) {
  const testing::TemporaryFolder folder;
  for (const std::string& path : {folder.path() + "/nowhere.yaml", folder.path()}) {
    try {
      static_cast<void>(LoadConfig(path));
      FAIL() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kMissingInput);
    }
  }
}

// Whatever the bytes are, the answer is a configuration or a report.
TEST(HostileConfig, RandomMutations) {
  const std::string base = testing::kBase;
  const std::string bytes = "{}[]:,&*!|>'\"%@`#?-<~ \n\t0aé\\";
  std::mt19937 random(7);
  int reports = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string text = base;
    for (int i = 0; i < 1 + round % 4; ++i) {
      const size_t at = random() % text.size();
      text[at] = bytes[random() % bytes.size()];
      if (random() % 4 == 0) {
        text.insert(at, text.substr(random() % text.size(), random() % 20));
      }
    }
    reports += ReportOf(text).empty() ? 0 : 1;
  }
  EXPECT_GT(reports, 500);
}

}  // namespace
}  // namespace ksa
