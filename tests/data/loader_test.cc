#include <chrono>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "data/loader/batch_stream.h"
#include "data/loader/dataset.h"
#include "data/sampling/document_rows.h"
#include "data/sampling/sample_order.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestDocuments;
using testing::TestFolder;
using testing::TokensOf;
using testing::WriteShards;

TestDocuments Documents(int count, unsigned seed) {
  std::mt19937 random(seed);
  TestDocuments documents;
  for (int d = 0; d < count; ++d) {
    std::vector<int32_t> document(1 + random() % 30);
    for (int32_t& token : document) {
      token = static_cast<int32_t>(random() % 256);
    }
    document.push_back(256);
    documents.push_back(document);
  }
  return documents;
}

class LoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteShards(folder_ / "a", {Documents(60, 1), Documents(40, 2)}, *MakeByteTokenizer());
    WriteShards(folder_ / "b", {Documents(50, 3)}, *MakeByteTokenizer());
    WriteShards(folder_ / "v", {Documents(30, 4), Documents(30, 5)}, *MakeByteTokenizer());
  }

  [[nodiscard]] DatasetConfig Config() const {
    DatasetConfig config;
    config.train = {{folder_ / "a", 3, ""}, {folder_ / "b", 1, "second"}};
    config.validation = {{folder_ / "v", "held out"}};
    config.sequence_length = 21;
    config.chunk_size = 4;
    config.vocab_size = 257;
    config.seed = 11;
    return config;
  }

  // The raw tokens of sample i of the run, straight from the shards.
  [[nodiscard]] std::vector<int32_t> Window(const DatasetConfig& config,
                                            int64_t i,
                                            std::vector<int64_t>& starts) const {
    std::vector<ShardFolder> folders;
    std::vector<SourceShape> shapes;
    for (const TrainSource& source : config.train) {
      folders.emplace_back(source.path);
      shapes.push_back({source.name, source.weight, {}});
      for (const TokenShard& shard : folders.back().shards()) {
        shapes.back().shard_samples.push_back(SamplesOfShard(shard.tokens(), config.sequence_length));
      }
    }
    const SampleLocation at = SampleOrder(config.seed, shapes).At(i);
    const TokenShard& shard = folders[static_cast<size_t>(at.source)].shards()[static_cast<size_t>(at.shard)];
    const std::vector<int32_t> tokens = TokensOf(shard);
    const int64_t first = at.shard_sample * config.sequence_length;
    starts.clear();
    for (int64_t p = 1; p <= config.sequence_length; ++p) {
      if (tokens[static_cast<size_t>(first + p - 1)] == 256) {  // a document starts after every eos
        starts.push_back(p);
      }
    }
    return {tokens.begin() + first, tokens.begin() + first + config.sequence_length + 1};
  }

  TestFolder folder_;
};

template <typename T>
std::vector<T> Slice(const std::vector<T>& all, int64_t first, int64_t count) {
  return {all.begin() + first, all.begin() + first + count};
}

TEST_F(LoaderTest, ABatchHoldsTheSamplesOfTheOrder) {
  const DatasetConfig config = Config();
  const Dataset dataset(config);
  Batch batch;
  dataset.MakeBatch(1000, 40, batch);
  EXPECT_EQ(batch.samples, 40);
  EXPECT_EQ(batch.first_sample, 1000);
  EXPECT_EQ(batch.target_count, 40 * 21);
  EXPECT_TRUE(batch.chunk_tokens.empty());
  std::vector<int64_t> starts;
  for (int64_t i = 0; i < 40; ++i) {
    const std::vector<int32_t> window = Window(config, 1000 + i, starts);
    EXPECT_EQ(Slice(batch.inputs, i * 21, 21), Slice(window, 0, 21));
    EXPECT_EQ(Slice(batch.targets, i * 21, 21), Slice(window, 1, 21));
  }
}

TEST_F(LoaderTest, DocumentMaskFillsRowsByTheRule) {
  DatasetConfig config = Config();
  config.document_mask = true;
  const Dataset dataset(config);
  Batch batch;
  dataset.MakeBatch(500, 30, batch);
  EXPECT_EQ(batch.chunks, 6);
  int64_t targets = 0;
  int64_t dropped = 0;
  std::vector<int64_t> starts;
  for (int64_t i = 0; i < 30; ++i) {
    const std::vector<int32_t> window = Window(config, 500 + i, starts);
    std::vector<int32_t> inputs(21);
    std::vector<int32_t> wanted(21);
    std::vector<int32_t> first(6);
    std::vector<int32_t> tokens(6);
    const FillResult filled = FillDocumentRows(window, starts, 4, {inputs, wanted, first, tokens});
    targets += filled.targets;
    dropped += filled.dropped;
    EXPECT_EQ(Slice(batch.inputs, i * 21, 21), inputs);
    EXPECT_EQ(Slice(batch.targets, i * 21, 21), wanted);
    EXPECT_EQ(Slice(batch.document_first_chunk, i * 6, 6), first);
    EXPECT_EQ(Slice(batch.chunk_tokens, i * 6, 6), tokens);
  }
  EXPECT_EQ(batch.target_count, targets);
  EXPECT_EQ(batch.dropped_tokens, dropped);
  EXPECT_GT(dropped, 0);
}

// However many are taken, against the windows of the whole source in plain order.
TEST_F(LoaderTest, ValidationTakesSamplesSpreadOverThePlainOrder) {
  const Dataset dataset(Config());
  ASSERT_EQ(dataset.validation_sources().size(), 1U);
  const SourceInfo& info = dataset.validation_sources()[0];
  EXPECT_EQ(info.name, "held out");
  const ShardFolder folder(folder_ / "v");
  std::vector<std::vector<int32_t>> windows;
  for (const TokenShard& shard : folder.shards()) {
    const std::vector<int32_t> tokens = TokensOf(shard);
    for (int64_t j = 0; j < (shard.tokens() - 1) / 21; ++j) {
      windows.push_back(Slice(tokens, j * 21, 22));
    }
  }
  ASSERT_EQ(static_cast<int64_t>(windows.size()), info.samples);
  ASSERT_GT(info.samples, 20);
  Batch batch;
  for (const int64_t taken : {int64_t{1}, int64_t{2}, int64_t{7}, info.samples / 2, info.samples - 1, info.samples}) {
    const EvenSamples samples = TakeEvenly(taken, info.samples);
    for (int64_t first = 0; first < taken; first += 3) {
      const int64_t count = std::min<int64_t>(3, taken - first);
      dataset.MakeValidationBatch(0, samples, first, count, batch);
      for (int64_t i = 0; i < count; ++i) {
        const std::vector<int32_t>& window = windows[static_cast<size_t>((first + i) * info.samples / taken)];
        EXPECT_EQ(Slice(batch.inputs, i * 21, 21), Slice(window, 0, 21)) << first + i << " of " << taken;
        EXPECT_EQ(Slice(batch.targets, i * 21, 21), Slice(window, 1, 21)) << first + i << " of " << taken;
      }
    }
  }
}

TEST_F(LoaderTest, SaysWhatItHolds) {
  const Dataset dataset(Config());
  const std::vector<SourceInfo>& sources = dataset.train_sources();
  ASSERT_EQ(sources.size(), 2U);
  EXPECT_EQ(sources[0].name, "a");
  EXPECT_EQ(sources[1].name, "second");
  EXPECT_EQ(sources[0].share, 768);
  EXPECT_EQ(sources[1].share, 256);
  const int64_t first = sources[0].samples * 21 * 1024 / 768;
  const int64_t second = sources[1].samples * 21 * 1024 / 256;
  EXPECT_EQ(dataset.TokensPerEpoch(), std::min(first, second));
  EXPECT_EQ(dataset.TokenizerName(), "byte");
  EXPECT_EQ(OpenTokenizer(dataset.TokenizerPath())->name(), "byte");
}

TEST_F(LoaderTest, TheFingerprintIsOfTheContents) {
  const std::string fingerprint = Dataset(Config()).Fingerprint();
  EXPECT_EQ(fingerprint.size(), 16U);
  std::filesystem::copy(folder_ / "a", folder_ / "copy");
  DatasetConfig copied = Config();
  copied.train[0].path = folder_ / "copy";
  EXPECT_EQ(Dataset(copied).Fingerprint(), fingerprint);
  DatasetConfig swapped = Config();
  std::swap(swapped.train[0], swapped.train[1]);
  EXPECT_NE(Dataset(swapped).Fingerprint(), fingerprint);
  copied.train[0].path = folder_ / "v";
  EXPECT_NE(Dataset(copied).Fingerprint(), fingerprint);
}

TEST_F(LoaderTest, RefusesDataThatTheRunCannotUse) {
  DatasetConfig config = Config();
  config.vocab_size = 256;
  EXPECT_KSA_ERROR(Dataset(config), ExitCode::kBadData, "holds token 256");
  config = Config();
  config.sequence_length = 100000;
  EXPECT_KSA_ERROR(Dataset(config), ExitCode::kBadData, "sequence length 100000");
  config = Config();
  config.train[1].name = "a";
  EXPECT_KSA_ERROR(Dataset(config), ExitCode::kConfig, "'a'");
  config = Config();
  config.train[1].weight = 1e-6;
  EXPECT_KSA_ERROR(Dataset(config), ExitCode::kConfig, "rounds to 0");
  config = Config();
  WriteShards(folder_ / "other", {Documents(50, 3)}, *MakeExternalTokenizer("other", 257, 256));
  config.train[1].path = folder_ / "other";
  EXPECT_KSA_ERROR(Dataset(config), ExitCode::kBadData, "must share one");
  config = Config();
  config.validation[0].path = folder_ / "absent";
  EXPECT_KSA_ERROR(Dataset(config), ExitCode::kMissingInput, "absent");
}

// --- a damaged block

class LoaderCorrupt : public ::testing::TestWithParam<bool> {};

// Of a shard with hashes of leaves, and of an old one that has those of blocks alone.
TEST_P(LoaderCorrupt, AbortNamesTheBlockAndSkipGivesNoTargets) {
  const TestFolder folder;
  std::vector<int32_t> tokens(static_cast<size_t>(2 * kBlockTokens), 65);
  tokens.back() = 256;
  const ShardIndex index = WriteShards(folder / "s", {{tokens}}, *MakeByteTokenizer());
  const std::string path = folder / ("s/" + index.shards[0].file);
  if (GetParam()) {
    testing::RemoveLeaves(folder / "s");
  }
  std::string bytes = testing::ReadFile(path);
  bytes[bytes.find(std::string("A\0A\0A\0A\0", 8)) + static_cast<size_t>(2 * kBlockTokens) + 2000] = 'B';
  testing::WriteFile(path, bytes);

  DatasetConfig config;
  config.train = {{folder / "s", 1, ""}};
  config.validation = {{folder / "s", ""}};
  config.sequence_length = 1000;
  config.vocab_size = 257;
  Batch batch;
  const int64_t samples = (2 * kBlockTokens - 1) / 1000;
  {
    const Dataset dataset(config);
    EXPECT_KSA_ERROR(dataset.MakeBatch(0, samples, batch), ExitCode::kBadData, "block 1");
    BatchStream stream(dataset, {samples, 0, samples}, 1, 3);
    EXPECT_KSA_ERROR(stream.Next(), ExitCode::kBadData, path);
    EXPECT_KSA_ERROR(stream.Next(), ExitCode::kBadData, path);
  }
  for (const bool mask : {false, true}) {
    config.on_corrupt = OnCorrupt::kSkip;
    config.document_mask = mask;
    config.chunk_size = 8;
    const Dataset dataset(config);
    dataset.MakeValidationBatch(0, TakeEvenly(samples, samples), 0, samples, batch);
    // Sample j takes tokens j·1000 to (j + 1)·1000. From 2^20 on a block is bad, or a leaf: samples 1048 to 1056.
    const int64_t good = GetParam() ? 1048 : samples - 9;
    EXPECT_EQ(batch.corrupt_samples, samples - good);
    EXPECT_EQ(batch.target_count, good * 1000);
    int64_t counted = 0;
    for (const int32_t target : batch.targets) {
      counted += target >= 0 ? 1 : 0;
    }
    EXPECT_EQ(counted, batch.target_count);
  }
}

INSTANTIATE_TEST_SUITE_P(Hashes, LoaderCorrupt, ::testing::Values(false, true), [](const auto& param) {
  return param.param ? "OfBlocks" : "OfLeaves";
});

// --- the stream

void ExpectSame(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.first_sample, b.first_sample);
  EXPECT_EQ(a.inputs, b.inputs);
  EXPECT_EQ(a.targets, b.targets);
  EXPECT_EQ(a.chunk_tokens, b.chunk_tokens);
  EXPECT_EQ(a.document_first_chunk, b.document_first_chunk);
  EXPECT_EQ(a.target_count, b.target_count);
}

TEST_F(LoaderTest, PrefetchedBatchesEqualDirectOnes) {
  DatasetConfig config = Config();
  config.document_mask = true;
  const Dataset dataset(config);
  for (const int ahead : {1, 2, 5}) {
    BatchStream stream(dataset, {16, 4, 8}, 100, 140, ahead);
    Batch direct;
    for (int64_t update = 100; update <= 140; ++update) {
      const Batch& batch = stream.Next();
      dataset.MakeBatch((update - 1) * 16 + 4, 8, direct);
      ExpectSame(batch, direct);
      EXPECT_GE(stream.last_wait_ms(), 0);
      if (update % 10 == 0) {  // let the thread run ahead as far as it may: the batch in hand must not change
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        ExpectSame(batch, direct);
      }
    }
    EXPECT_KSA_ERROR(stream.Next(), ExitCode::kInternal, "ended");
  }
}

TEST_F(LoaderTest, AStreamMayEndEarly) {
  const Dataset dataset(Config());
  const BatchStream unused(dataset, {16, 0, 16}, 1, 1000000);
  BatchStream used(dataset, {16, 0, 16}, 1'000'000'000, 2'000'000'000);
  EXPECT_EQ(used.Next().first_sample, 999'999'999LL * 16);
}

}  // namespace
}  // namespace ksa
