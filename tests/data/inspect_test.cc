#include "data/tools/inspect.h"

#include <cmath>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "data/tools/pair_table.h"
#include "data/tools/verify.h"
#include "tests/data/naive_ngrams.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestDocuments;
using testing::TestFolder;
using testing::TokensOf;
using testing::WriteShards;

TestDocuments SkewedDocuments(int count, unsigned seed) {
  std::mt19937 random(seed);
  TestDocuments documents;
  for (int d = 0; d < count; ++d) {
    std::vector<int32_t> document;
    for (unsigned i = random() % 20; i > 0; --i) {
      document.push_back(static_cast<int32_t>('a' + (random() % 5) * (random() % 5)));
    }
    document.push_back(256);
    documents.push_back(document);
  }
  return documents;
}

TEST(PairTable, CountsLikeAMap) {
  std::mt19937 random(1);
  PairTable counts;
  std::map<std::pair<int32_t, int32_t>, int64_t> expected;
  for (int i = 0; i < 300'000; ++i) {
    const auto a = static_cast<int32_t>(random() % 1000);
    const auto b = static_cast<int32_t>(random() % 400 * (random() % 400));
    counts.Count(a, b);
    ++expected[{a, b}];
  }
  for (const auto& [pair, count] : expected) {
    ASSERT_EQ(counts.Get(pair.first, pair.second), count);
  }
  EXPECT_EQ(counts.Get(1000, 0), 0);
  EXPECT_EQ(counts.GetOrSet(1000, 0, 7), 7);
  EXPECT_EQ(counts.GetOrSet(1000, 0, 8), 7);
  EXPECT_EQ(counts.Get(1000, 0), 7);
}

TEST(Inspect, CrossEntropyIsTheDocumentedFormula) {
  const TestFolder folder;
  WriteShards(folder / "t", {SkewedDocuments(90, 1), SkewedDocuments(60, 2)}, *MakeByteTokenizer());
  WriteShards(folder / "v", {SkewedDocuments(30, 3), SkewedDocuments(20, 4)}, *MakeByteTokenizer());
  const ShardFolder train(folder / "t");
  const ShardFolder validation(folder / "v");

  std::map<int32_t, double> tokens;
  std::map<int32_t, double> contexts;
  std::map<std::pair<int32_t, int32_t>, double> pairs;
  double n = 0;
  std::vector<std::vector<int32_t>> texts;
  for (const TokenShard& shard : train.shards()) {
    const std::vector<int32_t> all = TokensOf(shard);
    texts.push_back(all);
    for (size_t i = 0; i < all.size(); ++i, ++n) {
      ++tokens[all[i]];
      if (i > 0) {
        ++contexts[all[i - 1]];
        ++pairs[{all[i - 1], all[i]}];
      }
    }
  }
  const testing::NaiveNgrams naive(texts, 4, 257);
  double unigram = 0;
  double bigram = 0;
  double ngram = 0;
  double measured = 0;
  for (const TokenShard& shard : validation.shards()) {
    const std::vector<int32_t> all = TokensOf(shard);
    for (size_t i = 1; i < all.size(); ++i, ++measured) {
      const double u = (tokens[all[i]] + 1) / (n + 257);
      unigram -= std::log(u);
      bigram -= std::log((pairs[{all[i - 1], all[i]}] + 5 * u) / (contexts[all[i - 1]] + 5));
      ngram -= std::log(naive.Probability(
          {all.begin() + static_cast<std::ptrdiff_t>(i < 3 ? 0 : i - 3), all.begin() + static_cast<std::ptrdiff_t>(i)},
          all[i]));
    }
  }
  const CrossEntropy result = MeasureCrossEntropy(train, validation);
  EXPECT_NEAR(result.unigram, unigram / measured, 1e-12);
  EXPECT_NEAR(result.bigram, bigram / measured, 1e-12);
  EXPECT_NEAR(result.ngram, ngram / measured, 1e-12);
  EXPECT_EQ(result.ngram_tokens, result.train_tokens);
  EXPECT_EQ(result.train_tokens, train.index().tokens());
  EXPECT_EQ(result.validation_tokens, validation.index().tokens());
}

TEST(Inspect, LengthsAndText) {
  const TestFolder folder;
  WriteShards(folder / "s", {{{'h', 'i', 256}, {256}}, {{'y', 'o', 'u', '!', 256}}}, *MakeByteTokenizer());
  const ShardFolder opened(folder / "s");
  const LengthHistogram lengths = DocumentLengths(opened);
  EXPECT_EQ(lengths.counts, std::vector<int64_t>({1, 1, 1}));
  EXPECT_EQ(lengths.shortest, 1);
  EXPECT_EQ(lengths.longest, 5);
  EXPECT_DOUBLE_EQ(lengths.mean, 3);
  EXPECT_EQ(SampleText(opened, 0, 100), "hi");
  EXPECT_EQ(SampleText(opened, 2, 3), "you");
  EXPECT_KSA_ERROR(SampleText(opened, 3, 3), ExitCode::kUsage, "3 documents");
}

TEST(Verify, NamesEveryDamagedShard) {
  const TestFolder folder;
  const ShardIndex index = WriteShards(
      folder / "s", {SkewedDocuments(20, 1), SkewedDocuments(20, 2), SkewedDocuments(20, 3)}, *MakeByteTokenizer());
  EXPECT_TRUE(VerifyShards(folder / "s").empty());
  const std::string first = folder / ("s/" + index.shards[0].file);
  const std::string third = folder / ("s/" + index.shards[2].file);
  std::string bytes = testing::ReadFile(first);
  const std::string data("a\0a\0", 4);
  ASSERT_NE(bytes.find(data), std::string::npos);
  bytes[bytes.find(data)] = 'b';
  testing::WriteFile(first, bytes);
  std::filesystem::remove(third);
  testing::WriteFile(folder / "s/tokenizer.json", "{}");
  const std::vector<Error> faults = VerifyShards(folder / "s");
  ASSERT_EQ(faults.size(), 3U);
  EXPECT_KSA_ERROR(throw faults[0], ExitCode::kBadData, "tokenizer.json");
  EXPECT_KSA_ERROR(throw faults[1], ExitCode::kBadData, index.shards[0].file + ": block 0");
  EXPECT_KSA_ERROR(throw faults[2], ExitCode::kMissingInput, index.shards[2].file);
  EXPECT_KSA_ERROR(FailIfFaulty(faults), ExitCode::kBadData, "2 files are damaged; 1 file could not be read");
  EXPECT_KSA_ERROR(FailIfFaulty({faults[2]}), ExitCode::kMissingInput, "1 file could not be read");
}

// What may not be read is not called damaged.
TEST(Verify, FilesThatCannotBeReadAreNotDamaged) {
  const TestFolder folder;
  const ShardIndex index = WriteShards(folder / "s", {SkewedDocuments(20, 1)}, *MakeByteTokenizer());
  const std::string shard = folder / ("s/" + index.shards[0].file);
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(shard, std::filesystem::perms::none);
  {
    const testing::AsNobody nobody;
    const std::vector<Error> faults = VerifyShards(folder / "s");
    ASSERT_EQ(faults.size(), 1U);
    EXPECT_KSA_ERROR(throw faults[0], ExitCode::kIo, "Permission denied");
    EXPECT_KSA_ERROR(FailIfFaulty(faults), ExitCode::kIo, "could not be read");
  }
  std::filesystem::permissions(shard, std::filesystem::perms(0644));
  std::filesystem::permissions(folder / "s", std::filesystem::perms::none);
  {
    const testing::AsNobody nobody;
    EXPECT_KSA_ERROR(VerifyShards(folder / "s"), ExitCode::kIo, "Permission denied");
    EXPECT_KSA_ERROR(ShardFolder(folder / "s"), ExitCode::kIo, "Permission denied");
    EXPECT_KSA_ERROR(ShardFoldersIn(folder / "s"), ExitCode::kIo, "Permission denied");
  }
  std::filesystem::permissions(folder / "s", std::filesystem::perms(0755));
}

TEST(Verify, FoldersAndPipesInThePlaceOfAShard) {
  const TestFolder folder;
  const ShardIndex index = WriteShards(folder / "s", {SkewedDocuments(20, 1)}, *MakeByteTokenizer());
  const std::string shard = folder / ("s/" + index.shards[0].file);
  const auto expect = [&](ExitCode code, const char* part) {
    const std::vector<Error> faults = VerifyShards(folder / "s");
    ASSERT_EQ(faults.size(), 1U);
    EXPECT_KSA_ERROR(throw faults[0], code, part);
  };
  std::filesystem::remove(shard);
  std::filesystem::create_directory(shard);
  expect(ExitCode::kMissingInput, "found a folder");
  std::filesystem::remove(shard);
  ASSERT_EQ(mkfifo(shard.c_str(), 0600), 0);
  expect(ExitCode::kMissingInput, "found a pipe");
  std::filesystem::remove(shard);
  std::filesystem::create_symlink(shard, shard);
  expect(ExitCode::kMissingInput, "Too many levels of symbolic links");
  std::filesystem::remove(folder / "s/index.json");
  ASSERT_EQ(mkfifo((folder / "s/index.json").c_str(), 0600), 0);
  EXPECT_KSA_ERROR(VerifyShards(folder / "s"), ExitCode::kMissingInput, "found a pipe");
  EXPECT_KSA_ERROR(VerifyShards(folder / std::string(300, 'x')), ExitCode::kMissingInput, "File name too long");
}

}  // namespace
}  // namespace ksa
