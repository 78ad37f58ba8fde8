// What is wrong with the sources of a run, all of them in one pass.
#include "data/loader/open_source.h"

#include <gtest/gtest.h>

#include "data/loader/dataset.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;
using testing::WriteShards;

class OpenSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteShards(folder_ / "good", {{{1, 2, 3, 4, 5, 6, 7, 256}}}, *MakeByteTokenizer());
    WriteShards(folder_ / "short", {{{1, 2, 256}}}, *MakeByteTokenizer());
    WriteShards(folder_ / "foreign", {{{1, 2, 3, 4, 5, 6, 7, 8}}}, *MakeExternalTokenizer("other", 257, 8));
    WriteShards(folder_ / "large", {{{1, 2, 3, 4, 5, 6, 400, 300}}}, *MakeExternalTokenizer("large", 500, 300));
    std::filesystem::create_directories(folder_ / "empty");
  }

  [[nodiscard]] DatasetConfig Config(const std::vector<std::string>& train,
                                     const std::vector<std::string>& validation) const {
    DatasetConfig config;
    for (const std::string& name : train) {
      config.train.push_back({folder_ / name, 1, name});
    }
    for (const std::string& name : validation) {
      config.validation.push_back({folder_ / name, name});
    }
    config.sequence_length = 4;
    config.vocab_size = 257;
    return config;
  }

  TestFolder folder_;
};

TEST_F(OpenSourceTest, EverySourceIsJudged) {
  const std::vector<SourceProblem> problems =
      FindSourceProblems(Config({"absent", "short", "good", "large"}, {"foreign", "good", "empty"}));
  ASSERT_EQ(problems.size(), 5U);
  EXPECT_EQ(problems[0].source, "data.train[0]");
  EXPECT_TRUE(problems[0].absent);
  EXPECT_EQ(problems[0].code, ExitCode::kMissingInput);
  EXPECT_EQ(problems[1].source, "data.train[1]");
  EXPECT_EQ(problems[1].code, ExitCode::kBadData);
  EXPECT_NE(problems[1].message.find("a sample of sequence length 4 takes 5"), std::string::npos);
  EXPECT_EQ(problems[2].source, "data.train[3]");
  EXPECT_NE(problems[2].message.find("holds token 400, but model.vocab_size is 257"), std::string::npos);
  EXPECT_EQ(problems[3].source, "data.validation[0]");
  EXPECT_NE(problems[3].message.find("all sources of a run must share one"), std::string::npos);
  EXPECT_EQ(problems[4].source, "data.validation[2]");
  EXPECT_EQ(problems[4].code, ExitCode::kMissingInput) << "there, but without an index";
  EXPECT_FALSE(problems[4].absent);
}

// A dataset refuses exactly the sources that have a problem, with the same words.
TEST_F(OpenSourceTest, AsADatasetRefusesThem) {
  for (const char* name : {"short", "large", "foreign", "empty", "good"}) {
    const DatasetConfig config = Config({"good"}, {name});
    const std::vector<SourceProblem> problems = FindSourceProblems(config);
    ASSERT_EQ(problems.size(), name == std::string("good") ? 0U : 1U) << name;
    if (problems.empty()) {
      EXPECT_EQ(Dataset(config).validation_sources().size(), 1U);
    } else {
      EXPECT_KSA_ERROR(Dataset(config), problems.front().code, problems.front().message);
    }
  }
}

TEST(SourceName, IsTheLastFolder) {
  EXPECT_EQ(SourceName("own", "a/b"), "own");
  EXPECT_EQ(SourceName("", "a/b"), "b");
  EXPECT_EQ(SourceName("", "a/b/"), "b");
  EXPECT_EQ(SourceName("", "a/b/."), "b");
  EXPECT_EQ(SourceName("", "/"), "/");
}

}  // namespace
}  // namespace ksa
