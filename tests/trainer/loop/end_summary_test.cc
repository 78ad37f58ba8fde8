// What a run says at its end, and that what it advises is what a shell would read.
#include "trainer/loop/end_summary.h"

#include <cmath>

#include <gtest/gtest.h>

#include "trainer/loop/next_commands.h"

namespace ksa {
namespace {

RunSummary Example() {
  return {.name = "books",
          .updates = 2000,
          .max_steps = 2000,
          .tokens = 2048000,
          .seconds = 272,
          .starts = 2,
          .tokens_per_second = 7530.0,
          .training_loss = 1.62401,
          .averaged = 100,
          .validation = {},
          .checkpoint = "runs/books/checkpoints/step_00002000",
          .next = {"ksa generate runs/books", "# a remark"}};
}

std::string TextOf(const RunSummary& summary) {
  std::string text;
  for (const auto& [line, style] : RenderSummary(summary)) {
    EXPECT_LE(line.size(), 80U) << line;
    text += line + "\n";
  }
  return text;
}

TEST(EndSummary, WithoutValidation) {
  EXPECT_EQ(TextOf(Example()),
            "\n"
            "run books: 2000 of 2000 updates, 2.0M tokens in 4m32s of 2 starts, 7.5K tok/s\n"
            "training loss 1.6240 nats a token, mean of the last 100 updates\n"
            "checkpoint runs/books/checkpoints/step_00002000\n"
            "next:\n"
            "  ksa generate runs/books\n"
            "  # a remark\n");
}

// 2 ln 2 nats are 2 bits a token; at 4 bytes a token half a bit a byte; perplexity 4.
TEST(EndSummary, BestAndLastOfSeveralSources) {
  const double nats = 2 * std::log(2.0);
  RunSummary summary = Example();
  summary.validation = {
      {.name = "books",
       .last = {.step = 2000, .loss = nats, .standard_error = 0.01},
       .best = {.step = 1750, .loss = nats / 2, .standard_error = {}},
       .samples_read = 256,
       .samples_there = 4031,
       .bytes_per_target = 4.0},
      {.name = "wiki",
       .last = {.step = 2000, .loss = nats, .standard_error = 0.02},
       .best = {.step = 2000, .loss = nats, .standard_error = 0.02},
       .samples_read = 9,
       .samples_there = 9,
       .bytes_per_target = {}},
  };
  const std::string text = TextOf(summary);
  const std::string table =
      "validation             update  nats/tok      +-  bits/tok  bits/byte  perplexity\n"
      "----------  ---------  ------  --------  ------  --------  ---------  ----------\n"
      "books       last         2000    1.3863  0.0100     2.000      0.500  4.00\n"
      "books       best         1750    0.6931       -     1.000      0.250  2.00\n"
      "wiki        last=best    2000    1.3863  0.0200     2.000          -  4.00\n"
      "of books: 256 of 4031 samples\n"
      "of wiki: 9 of 9 samples\n";
  EXPECT_NE(text.find(table), std::string::npos) << text;
}

TEST(EndSummary, ALossOfOneUpdateIsNoMean) {
  RunSummary summary = Example();
  summary.averaged = 1;
  EXPECT_NE(TextOf(summary).find("training loss 1.6240 nats a token, of the last update\n"), std::string::npos);
}

Config ExampleConfig() {
  Config config;
  config.run.dir = "runs/my books";
  config.data.validation = {{.path = "corpus/a", .name = "a"}, {.path = "corpus/b", .name = "b"}};
  return config;
}

const Invocation kInvocation = {.version = "1", .arguments = {"build/ksa", "train", "my books.yaml", "--set", "a=1"}};

TEST(NextCommands, OfARunThatIsDone) {
  EXPECT_EQ(NextCommands(ExampleConfig(), kInvocation, {.has_checkpoint = true, .spells_text = true}),
            (std::vector<std::string>{"build/ksa eval 'runs/my books'",
                                      "build/ksa generate 'runs/my books' --prompt The --max-tokens 200"}));
  EXPECT_TRUE(NextCommands(ExampleConfig(), kInvocation, {.spells_text = true}).empty());
}

TEST(NextCommands, OfARunThatGoesOn) {
  EXPECT_EQ(NextCommands(ExampleConfig(), kInvocation, {.stopped = true}),
            std::vector<std::string>{"build/ksa train 'my books.yaml' --set a=1"});
  EXPECT_EQ(NextCommands(ExampleConfig(), kInvocation, {.at_hard_stop = true}),
            std::vector<std::string>{"build/ksa train 'my books.yaml' --set a=1 --set training.hard_stop=none"});
  const Invocation set = {.version = "1",
                          .arguments = {"ksa", "train", "--set", "training.hard_stop=9", "a.yaml", "--set", "b=1"}};
  EXPECT_EQ(NextCommands(ExampleConfig(), set, {.at_hard_stop = true}),
            std::vector<std::string>{"ksa train a.yaml --set b=1 --set training.hard_stop=none"});
  EXPECT_EQ(NextCommands(ExampleConfig(), kInvocation, {.stopped = true, .ranks = 2}),
            std::vector<std::string>{"# the same line again goes on"});
}

}  // namespace
}  // namespace ksa
