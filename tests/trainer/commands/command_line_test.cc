// A command line that is wrong, and what is said of it.
#include "trainer/commands/command_line.h"

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"

namespace ksa {
namespace {

enum class Fruit : int { kApple, kPear };

// A program with the kinds of options that ksa has.
class CommandLineTest : public ::testing::Test {
 protected:
  CommandLineTest() {
    PrepareCommandLine(app_);
    app_.require_subcommand(1);
    CLI::App* train = app_.add_subcommand("train", "Train");
    train->add_option("config", config_, "run configuration")->required()->type_name("CONFIG");
    train->add_flag("--dry-run", dry_, "write nothing");
    train->add_option("--threads", threads_, "cores to use")->check(WholeNumber(1, 64));
    train->add_option("--ratio", ratio_, "share")->check(FiniteNumber(0, 1));
    train->add_option("--fruit", fruit_, "which")
        ->transform(Choice<Fruit>({{"pear", Fruit::kPear}, {"apple", Fruit::kApple}}));
    train->add_option("--old", old_, "checked by the parser's own means")->check(CLI::IsMember({"auto", "never"}));
    train->add_option("--span", span_, "likewise")->check(CLI::Range(2, 8));
    CLI::Option* left = train->add_option("--left", name_, "one way")->type_name("FILE");
    train->add_option("--right", name_, "the other way")->excludes(left);
    train->callback([this] { ran_ = true; });
    CLI::App* data = app_.add_subcommand("data", "Shards");
    data->require_subcommand(1);
    CLI::App* tokenize = data->add_subcommand("tokenize", "Text to shards");
    tokenize->add_option("--input", inputs_, "text files")->required()->expected(1, -1)->type_name("PATH");
  }

  // The message, without the line that points to --help.
  std::string Said(const std::vector<std::string>& arguments) {
    app_.clear();
    try {
      ParseCommandLine(app_, arguments);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      const std::string text = error.what();
      return text.substr(0, text.find('\n'));
    }
    return "";
  }

  CLI::App app_{"A program", "ksa"};
  std::string config_;
  std::string name_;
  std::string old_;
  std::vector<std::string> inputs_;
  Fruit fruit_ = Fruit::kApple;
  bool dry_ = false;
  int threads_ = 1;
  int span_ = 2;
  double ratio_ = 0;
  bool ran_ = false;
};

TEST_F(CommandLineTest, GoodLinesRun) {
  EXPECT_EQ(Said({"train", "a.yaml", "--fruit", "pear", "--threads", "64", "--ratio=0.5", "--old", "never"}), "");
  EXPECT_TRUE(ran_);
  EXPECT_EQ(fruit_, Fruit::kPear);
  EXPECT_EQ(threads_, 64);
}

TEST_F(CommandLineTest, UnknownCommands) {
  EXPECT_EQ(Said({"trian", "a.yaml"}), "unknown command 'trian'; did you mean 'ksa train'?");
  EXPECT_EQ(Said({"tokenize", "--input", "a"}), "unknown command 'tokenize'; did you mean 'ksa data tokenize'?");
  EXPECT_EQ(Said({"data", "tokenise", "--input", "a"}),
            "unknown command 'tokenise'; did you mean 'ksa data tokenize'?");
  EXPECT_EQ(Said({"zzz"}), "unknown command 'zzz'; ksa has train or data");
  EXPECT_EQ(Said({}), "`ksa` needs a command: train or data");
  EXPECT_EQ(Said({"data"}), "`ksa data` needs a command: tokenize");
}

TEST_F(CommandLineTest, UnknownOptions) {
  EXPECT_EQ(Said({"train", "a.yaml", "--thread", "3"}),
            "ksa train has no option '--thread'; did you mean '--threads'?");
  EXPECT_EQ(Said({"train", "a.yaml", "--thraeds=3"}), "ksa train has no option '--thraeds'; did you mean '--threads'?");
  EXPECT_EQ(Said({"train", "a.yaml", "-dry-run"}), "ksa train has no option '-dry-run'; did you mean '--dry-run'?");
  EXPECT_EQ(Said({"train", "a.yaml", "--qqqqqqqq"}), "ksa train has no option '--qqqqqqqq'");
  EXPECT_EQ(Said({"train", "--dryrun"}), "ksa train has no option '--dryrun'; did you mean '--dry-run'?")
      << "before what is missing besides";
  EXPECT_EQ(Said({"--threads", "3", "train", "a.yaml"}), "ksa has no option '--threads'");
  EXPECT_EQ(Said({"train", "a.yaml", "b.yaml"}), "ksa train takes no argument 'b.yaml'");
  EXPECT_FALSE(ran_);
}

TEST_F(CommandLineTest, WhatIsMissing) {
  EXPECT_EQ(Said({"train"}), "ksa train needs CONFIG (run configuration)");
  EXPECT_EQ(Said({"data", "tokenize"}), "ksa data tokenize needs --input PATH (text files)");
  EXPECT_EQ(Said({"train", "a.yaml", "--left"}), "--left needs a value: --left FILE (one way)");
  EXPECT_EQ(Said({"train", "a.yaml", "--left", "x", "--left", "y"}), "--left is given 2 times; give it once");
  EXPECT_EQ(Said({"train", "a.yaml", "--left", "x", "--right", "y"}),
            "--left and --right exclude each other; give one of them");
}

TEST_F(CommandLineTest, WrongValues) {
  EXPECT_EQ(Said({"train", "a", "--threads", "65"}), "--threads: expected a whole number from 1 to 64, got '65'");
  EXPECT_EQ(Said({"train", "a", "--threads", "many"}), "--threads: expected a whole number from 1 to 64, got 'many'");
  EXPECT_EQ(Said({"train", "a", "--ratio", "1.5"}), "--ratio: expected a number from 0 to 1, got '1.5'");
  EXPECT_EQ(Said({"train", "a", "--fruit", "peer"}),
            "--fruit: expected pear or apple, got 'peer'; did you mean 'pear'?");
  EXPECT_EQ(Said({"train", "a", "--fruit", "1"}), "--fruit: expected pear or apple, got '1'") << "words, not numbers";
  EXPECT_EQ(Said({"train", "a", "--old", "ever"}), "--old: expected auto or never, got 'ever'; did you mean 'never'?");
  EXPECT_EQ(Said({"train", "a", "--span", "9"}), "--span: expected a number from 2 to 8, got '9'");
  EXPECT_FALSE(ran_);
}

TEST_F(CommandLineTest, PointsToTheHelpOfTheCommand) {
  try {
    ParseCommandLine(app_, {"data", "tokenize", "--inptu", "x"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "ksa data tokenize has no option '--inptu'; did you mean '--input'?\n"
                 "`ksa data tokenize --help` shows what it takes, with examples");
  }
}

TEST_F(CommandLineTest, HelpIsNoError) {
  ::testing::internal::CaptureStdout();
  ParseCommandLine(app_, {"help", "data", "tokenize"});
  const std::string helped = ::testing::internal::GetCapturedStdout();
  app_.clear();
  ::testing::internal::CaptureStdout();
  ParseCommandLine(app_, {"data", "tokenize", "--help"});
  EXPECT_EQ(helped, ::testing::internal::GetCapturedStdout());
  EXPECT_TRUE(helped.starts_with("usage: ksa data tokenize --input PATH..."));
}

}  // namespace
}  // namespace ksa
