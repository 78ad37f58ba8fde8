// Tokenizing that is killed and goes on, and parts of an input that are merged.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <random>

#include <gtest/gtest.h>
#include <zlib.h>

#include "data/files/paths.h"
#include "data/shards/staged_folder.h"
#include "data/tools/merge.h"
#include "data/tools/tokenize.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;
using testing::TextsOf;
namespace fs = std::filesystem;

// Lines of text; some are long.
std::string RandomLines(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < bytes) {
    text += std::string(1 + random() % 90, static_cast<char>('a' + random() % 26)) + " ";
    text += random() % 5 == 0 ? "\n" : "\xC3\xA9";
  }
  return text + "\n";
}

void WriteGzip(const std::string& path, const std::string& text) {
  gzFile file = gzopen(path.c_str(), "wb1");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(gzwrite(file, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
}

std::string ContentsOf(const std::string& folder) {
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
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

class TokenizeResumeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::WriteFile(folder_ / "a.txt", RandomLines(1'100'000, 1));
    WriteGzip(folder_ / "b.txt.gz", RandomLines(1'200'000, 2));
    testing::WriteFile(folder_ / "c.txt", "");
    testing::WriteFile(folder_ / "d.txt", RandomLines(1'400'000, 3));
    options_.inputs = {folder_ / "a.txt", folder_ / "b.txt.gz", folder_ / "c.txt", folder_ / "d.txt"};
    options_.shards = 4;
    options_.threads = 2;
  }

  // Of a run that nothing interrupts.
  std::string Expected() {
    TokenizeOptions options = options_;
    options.output = folder_ / "whole/out";
    static_cast<void>(TokenizeText(options));
    return ContentsOf(options.output);
  }

  // A process of its own, which dies as soon as `shards` are whole.
  static void RunUntil(TokenizeOptions options, int64_t shards) {
    const pid_t child = fork();
    if (child == 0) {
      options.on_shard = [shards](int64_t whole) {
        if (whole == shards) {
          raise(SIGKILL);
        }
      };
      static_cast<void>(TokenizeText(options));
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
  }

  TestFolder folder_;
  TokenizeOptions options_;
};

TEST_F(TokenizeResumeTest, GoesOnBehindEveryShardWithTheSameBytes) {
  for (const double fraction : {0.0, 0.3}) {
    options_.validation_fraction = fraction;
    const std::string expected = Expected();
    fs::remove_all(folder_ / "whole");
    for (int64_t shards = 1; shards < 4; ++shards) {
      options_.output = folder_ / "killed/out";
      options_.resume = false;
      RunUntil(options_, shards);
      EXPECT_FALSE(fs::exists(options_.output));
      options_.resume = true;
      if (shards == 1) {
        RunUntil(options_, 3);  // and once more
      }
      const TokenizeSummary summary = TokenizeText(options_);
      EXPECT_EQ(summary.shards_before, shards == 1 ? 3 : shards);
      EXPECT_GT(summary.bytes_before, 0);
      EXPECT_TRUE(ContentsOf(options_.output) == expected) << "killed behind shard " << shards;
      EXPECT_EQ(NamesIn(folder_ / "killed").size(), 1U) << "nothing is left";
      fs::remove_all(folder_ / "killed");
    }
  }
}

TEST_F(TokenizeResumeTest, KilledAtAnyTime) {
  options_.validation_fraction = 0.1;
  const std::string expected = Expected();
  options_.output = folder_ / "killed/out";
  options_.resume = true;
  std::mt19937 random(7);
  int kills = 0;
  for (int attempt = 0; !fs::exists(options_.output) && attempt < 500; ++attempt) {
    const pid_t child = fork();
    if (child == 0) {
      static_cast<void>(TokenizeText(options_));
      _exit(0);
    }
    usleep(static_cast<useconds_t>(random() % (4000U * static_cast<unsigned>(attempt + 1))));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    kills += WIFSIGNALED(status) ? 1 : 0;
  }
  EXPECT_GT(kills, 0);
  EXPECT_TRUE(ContentsOf(options_.output) == expected) << "after " << kills << " kills";
}

TEST_F(TokenizeResumeTest, WhatIsLeftIsNeitherLostNorMixedUp) {
  options_.output = folder_ / "out";
  RunUntil(options_, 2);
  EXPECT_KSA_ERROR(TokenizeText(options_), ExitCode::kCannotCreate, "--resume goes on with it");
  options_.resume = true;
  TokenizeOptions other = options_;
  other.validation_fraction = 0.2;
  EXPECT_KSA_ERROR(TokenizeText(other), ExitCode::kBadData, "other options");
  {
    const StagedFolder held(options_.output, LeftOver::kTake);
    EXPECT_TRUE(held.resumed());
    EXPECT_KSA_ERROR(TokenizeText(options_), ExitCode::kCannotCreate, "another process writes there");
  }
  RunUntil(options_, 2);  // the folder that was held is gone with its holder: a new beginning
  testing::WriteFile(folder_ / "d.txt", RandomLines(1'400'000, 4));
  EXPECT_KSA_ERROR(TokenizeText(options_), ExitCode::kBadData, "have changed since");
  EXPECT_EQ(TokenizeText([&] {
              fs::remove_all(options_.output + ".tmp");
              return options_;
            }())
                .shards_before,
            0);
}

TEST_F(TokenizeResumeTest, AFailureBehindWholeShardsLeavesThem) {
  testing::WriteFile(folder_ / "d.txt", RandomLines(1'400'000, 3) + "\xFF\n");
  options_.output = folder_ / "out";
  EXPECT_KSA_ERROR(TokenizeText(options_), ExitCode::kBadData, "d.txt");
  EXPECT_TRUE(fs::exists(options_.output + ".tmp/" + kUnfinishedFile));
  options_.shards = 1;
  options_.output = folder_ / "other";
  EXPECT_KSA_ERROR(TokenizeText(options_), ExitCode::kBadData, "d.txt");
  EXPECT_FALSE(fs::exists(options_.output + ".tmp")) << "nothing was whole";
}

class MergeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 9; ++i) {
      options_.inputs.push_back(folder_ / fmt::format("input-{}.txt", i));
      testing::WriteFile(options_.inputs.back(), RandomLines(3000 + 700 * static_cast<size_t>(i), 10U + i));
    }
    options_.shards = 2;
  }

  // The shard folders of all parts.
  std::vector<std::string> TokenizeParts(int64_t parts) {
    std::vector<std::string> folders;
    for (int64_t part = 1; part <= parts; ++part) {
      TokenizeOptions options = options_;
      options.part = {part, parts};
      options.output = folder_ / fmt::format("part-{}-of-{}", part, parts);
      static_cast<void>(TokenizeText(options));
      folders.push_back(options.output);
    }
    return folders;
  }

  TestFolder folder_;
  TokenizeOptions options_;
};

TEST_F(MergeTest, PartsHoldTheDocumentsOfTheWholeInOrder) {
  options_.output = folder_ / "whole";
  static_cast<void>(TokenizeText(options_));
  const std::vector<std::string> folders = TokenizeParts(4);
  const std::vector<MergedFolder> merged = MergeShards({folders, folder_ / "merged"});
  ASSERT_EQ(merged.size(), 1U);
  EXPECT_TRUE(TextsOf(folder_ / "merged") == TextsOf(options_.output));
  const ShardFolder shards(folder_ / "merged");
  EXPECT_EQ(merged[0].shards, static_cast<int64_t>(shards.shards().size()));
  EXPECT_EQ(merged[0].tokens, ShardFolder(options_.output).index().tokens());

  struct stat status {};

  ASSERT_EQ(stat(shards.shards().front().path().c_str(), &status), 0);
  EXPECT_EQ(status.st_nlink, 2U) << "linked, not copied";
  for (const std::string& folder : folders) {
    fs::remove_all(folder);
  }
  const ShardFolder left(folder_ / "merged");
  for (const TokenShard& shard : left.shards()) {
    shard.Verify();
  }
}

TEST_F(MergeTest, TrainAndValidationAreMergedEach) {
  options_.validation_fraction = 0.4;
  const std::vector<std::string> folders = TokenizeParts(3);
  const std::vector<MergedFolder> merged = MergeShards({folders, folder_ / "merged"});
  ASSERT_EQ(merged.size(), 2U);
  std::vector<std::string> expected;
  for (const std::string& folder : folders) {
    const std::vector<std::string> texts = TextsOf(folder + "/validation");
    expected.insert(expected.end(), texts.begin(), texts.end());
  }
  EXPECT_TRUE(TextsOf(folder_ / "merged/validation") == expected);
  EXPECT_FALSE(IsHeldOut(0, 0.4, 1) == IsHeldOut(0, 0.4, 2) && IsHeldOut(1, 0.4, 1) == IsHeldOut(1, 0.4, 2) &&
               IsHeldOut(2, 0.4, 1) == IsHeldOut(2, 0.4, 2) && IsHeldOut(3, 0.4, 1) == IsHeldOut(3, 0.4, 2))
      << "parts draw for themselves";
}

TEST_F(MergeTest, WhatDoesNotFit) {
  const std::vector<std::string> folders = TokenizeParts(2);
  EXPECT_KSA_ERROR(MergeShards({{folders[0], folders[0] + "/."}, folder_ / "merged"}), ExitCode::kUsage, "given twice");
  TokenizeOptions split = options_;
  split.validation_fraction = 0.5;
  split.output = folder_ / "split";
  static_cast<void>(TokenizeText(split));
  EXPECT_KSA_ERROR(MergeShards({{folders[0], split.output}, folder_ / "merged"}), ExitCode::kUsage, "one form");
  EXPECT_KSA_ERROR(MergeShards({{folders[0], folder_ / "none"}, folder_ / "merged"}), ExitCode::kMissingInput, "none");
  EXPECT_KSA_ERROR(MergeShards({folders, folders[0]}), ExitCode::kCannotCreate, "exists already");
  const std::string shard = ShardFolder(folders[1]).shards().front().path();
  std::ofstream(shard, std::ios::app) << "x";
  EXPECT_KSA_ERROR(MergeShards({folders, folder_ / "merged"}), ExitCode::kBadData, "cut short");
  EXPECT_FALSE(fs::exists(folder_ / "merged"));
}

TEST_F(MergeTest, PartsThatAreNone) {
  options_.output = folder_ / "out";
  for (const TokenizePart part : {TokenizePart{0, 2}, TokenizePart{3, 2}, TokenizePart{1, 0}}) {
    options_.part = part;
    EXPECT_KSA_ERROR(TokenizeText(options_), ExitCode::kUsage, "--part");
  }
  options_.inputs.resize(2);
  options_.part = {2, 100};
  EXPECT_KSA_ERROR(TokenizeText(options_), ExitCode::kBadData, "no file of 2");
}

}  // namespace
}  // namespace ksa
