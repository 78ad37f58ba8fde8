// What a help screen looks like.
#include "trainer/commands/help_screen.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "trainer/commands/command_line.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"

namespace ksa {
namespace {

TEST(HelpScreen, OptionsInGroupsWithDefaultsAsWords) {
  CLI::App app{"A program", "ksa"};
  PrepareCommandLine(app);
  std::string text;
  std::vector<std::string> inputs;
  int threads = 2;
  bool flag = false;
  CLI::App* command = app.add_subcommand("make", "Make things");
  command->add_option("FILE", text, "where to begin")->required();
  command->add_option("--input", inputs, "text files, or folders of them")
      ->required()
      ->expected(1, -1)
      ->type_name("PATH")
      ->group("Text");
  command->add_flag("--quick", flag, "leave out what is slow");
  command->add_option("--kind", text, "how")->check(Words({"this", "that"}))->default_str("this")->group("Text");
  command->add_option("--threads", threads, "cores to use, all of which are bound to one place for as long as it lasts")
      ->check(WholeNumber(1, 64))
      ->capture_default_str();
  command->add_option("--hidden", text, "not shown")->group("");
  command->footer(
      "Examples:\n"
      "  ksa make a.txt --input 'a file with a long name.txt' another_file.txt --kind that --threads 17 --quick\n"
      "A paragraph that was written\nin two lines.\n\nAnd another one.");
  EXPECT_EQ(command->help("ksa"),
            "usage: ksa make FILE --input PATH... [OPTIONS]\n"
            "\n"
            "Make things.\n"
            "\n"
            "Arguments:\n"
            "  FILE  where to begin\n"
            "\n"
            "Text:\n"
            "  --input PATH...   text files, or folders of them (required)\n"
            "  --kind this|that  how [this]\n"
            "\n"
            "Options:\n"
            "  --quick      leave out what is slow\n"
            "  --threads N  cores to use, all of which are bound to one place for as long as\n"
            "               it lasts, 1 to 64 [2]\n"
            "\n"
            "Examples:\n"
            "  ksa make a.txt --input 'a file with a long name.txt' another_file.txt \\\n"
            "      --kind that --threads 17 --quick\n"
            "\n"
            "A paragraph that was written in two lines.\n"
            "\n"
            "And another one.\n");
}

TEST(HelpScreen, CommandsInGroups) {
  CLI::App app{"A program", "ksa"};
  PrepareCommandLine(app);
  app.add_subcommand("data", "Token shards")->add_subcommand("verify", "Check");
  app.get_subcommand("data")->add_subcommand("inspect", "Look");
  app.add_subcommand("train", "Train");
  GroupCommands(app, "First", {"data"});
  EXPECT_EQ(app.help(),
            "usage: ksa COMMAND ...\n"
            "\n"
            "A program.\n"
            "\n"
            "First:\n"
            "  data  Token shards: verify, inspect\n"
            "\n"
            "Commands:\n"
            "  train  Train\n");
}

TEST(OptionValues, AsDeclared) {
  CLI::App app{"A program", "ksa"};
  std::string text;
  std::vector<int> numbers;
  double number = 0;
  bool flag = false;
  const auto shown = [](const CLI::Option* option) {
    const OptionValues values = ValuesOf(*option);
    return fmt::format("{}/{}/{}/{}", values.placeholder, fmt::join(values.choices, ","), values.range, values.many);
  };
  EXPECT_EQ(shown(app.add_flag("--flag", flag)), "///false");
  EXPECT_EQ(shown(app.add_option("--text", text)), "TEXT///false");
  EXPECT_EQ(shown(app.add_option("--file", text)->type_name("byte|FILE")), "byte|FILE///false");
  EXPECT_EQ(shown(app.add_option("--number", number)->check(PositiveNumber())), "X///false");
  EXPECT_EQ(shown(app.add_option("--numbers", numbers)->check(WholeNumber(0, 9))), "N//0 to 9/true");
  EXPECT_EQ(shown(app.add_option("--word", text)->check(Words({"b", "a"}))), "b|a/b,a//false");
  EXPECT_EQ(shown(app.add_option("--theirs", text)->check(CLI::IsMember({"b", "a"}))), "b|a/b,a//false");
  const std::map<std::string, int> map = {{"bpe", 0}, {"unigram", 1}};
  EXPECT_EQ(shown(app.add_option("--map", text)->transform(CLI::CheckedTransformer(map))),
            "bpe|unigram/bpe,unigram//false");
  EXPECT_EQ(shown(app.add_option("--range", number)->check(CLI::Range(0.5, 2.0))), "X//0.5 to 2/false");
  EXPECT_EQ(shown(app.add_option("runs", text)), "RUNS///false") << "a positional without a type";
}

TEST(OneOf, Words) {
  EXPECT_EQ(OneOf({}), "");
  EXPECT_EQ(OneOf({"a"}), "a");
  EXPECT_EQ(OneOf({"a", "b", "c"}), "a, b or c");
}

}  // namespace
}  // namespace ksa
