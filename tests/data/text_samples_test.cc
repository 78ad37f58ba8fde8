// A text as samples, against shards that hold it as their one document.
#include "data/loader/text_samples.h"

#include <vector>

#include <gtest/gtest.h>

#include "data/loader/dataset.h"
#include "data/tokenizers/tokenizer.h"
#include "tests/data/support.h"

namespace ksa::testing {
namespace {

std::vector<int32_t> TokensOfLength(int64_t length) {
  std::vector<int32_t> tokens(static_cast<size_t>(length));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>((i * 37 + i / 256) % 256);
  }
  tokens.back() = 256;
  return tokens;
}

DatasetConfig ConfigOf(bool mask) {
  DatasetConfig config;
  config.document_mask = mask;
  config.sequence_length = 21;
  config.chunk_size = 4;
  config.vocab_size = 257;
  return config;
}

// Whole windows are those of the shard.
TEST(TextSamples, AreThoseOfAShard) {
  const TestFolder folder;
  const std::vector<int32_t> tokens = TokensOfLength(21 * 9 + 6);
  WriteShards(folder / "v", {{tokens}}, *MakeByteTokenizer());
  for (const bool mask : {false, true}) {
    DatasetConfig config = ConfigOf(mask);
    const TextSamples text(tokens, config);
    config.validation = {{folder / "v", ""}};
    const Dataset dataset(config);
    ASSERT_EQ(dataset.validation_sources()[0].samples, 9);
    ASSERT_EQ(text.samples(), 10);
    Batch expected;
    Batch batch;
    dataset.MakeValidationBatch(0, TakeEvenly(9, 9), 2, 7, expected);
    text.MakeBatch(TakeEvenly(10, 10), 2, 7, batch);
    EXPECT_EQ(batch.inputs, expected.inputs);
    EXPECT_EQ(batch.targets, expected.targets);
    EXPECT_EQ(batch.document_first_chunk, expected.document_first_chunk);
    EXPECT_EQ(batch.chunk_tokens, expected.chunk_tokens);
    EXPECT_EQ(batch.target_count, expected.target_count);
    EXPECT_EQ(batch.chunks, expected.chunks);
    EXPECT_EQ(batch.sequence_length, expected.sequence_length);
  }
}

// Whatever the length: every token but the first is the target of one row, whose input is the token before it.
TEST(TextSamples, EveryTokenButTheFirstIsATargetOnce) {
  for (const int64_t length : {2, 3, 20, 21, 22, 23, 42, 43, 113}) {
    for (const bool mask : {false, true}) {
      const std::vector<int32_t> tokens = TokensOfLength(length);
      const TextSamples text(tokens, ConfigOf(mask));
      Batch batch;
      text.MakeBatch(TakeEvenly(text.samples(), text.samples()), 0, text.samples(), batch);
      EXPECT_EQ(batch.target_count, length - 1);
      size_t at = 0;
      for (size_t row = 0; row < batch.targets.size(); ++row) {
        if (batch.targets[row] < 0) {
          continue;
        }
        ASSERT_LT(at + 1, tokens.size());
        EXPECT_EQ(batch.inputs[row], tokens[at]) << "row " << row << " of " << length;
        EXPECT_EQ(batch.targets[row], tokens[at + 1]) << "row " << row << " of " << length;
        ++at;
      }
      EXPECT_EQ(at + 1, tokens.size());
    }
  }
}

TEST(TextSamples, AreSpread) {
  const std::vector<int32_t> tokens = TokensOfLength(21 * 10 + 1);
  const TextSamples text(tokens, ConfigOf(false));
  ASSERT_EQ(text.samples(), 10);
  Batch batch;
  text.MakeBatch(TakeEvenly(3, 10), 0, 3, batch);
  for (const size_t j : {0, 1, 2}) {
    EXPECT_EQ(batch.inputs[j * 21], tokens[j * 10 / 3 * 21]);
  }
}

}  // namespace
}  // namespace ksa::testing
