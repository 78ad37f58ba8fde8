// Bytes that targets stand for.
#include "trainer/evaluate/target_bytes.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/loader/dataset.h"
#include "data/loader/text_samples.h"
#include "data/tools/train_tokenizer.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;

DatasetConfig ConfigOf(int32_t length, bool mask) {
  DatasetConfig config;
  config.document_mask = mask;
  config.sequence_length = length;
  config.chunk_size = 4;
  config.vocab_size = 1 << 20;
  return config;
}

int64_t BytesOfText(const TextSamples& text, const Tokenizer& tokenizer) {
  Batch batch;
  int64_t bytes = 0;
  for (int64_t i = 0; i < text.samples(); ++i) {
    text.MakeBatch(TakeEvenly(text.samples(), text.samples()), i, 1, batch);
    bytes += TargetBytes(batch, tokenizer);
  }
  return bytes;
}

TEST(TargetBytes, OfBytesAreTheTargetsThatEndNoDocument) {
  const TestFolder folder;
  testing::WriteShards(
      folder / "v", {{{65, 66, 67, 256}, {68, 256}, {69, 70, 71, 72, 73, 256}, {74, 75, 256}}}, *MakeByteTokenizer());
  for (const bool mask : {false, true}) {
    DatasetConfig config = ConfigOf(7, mask);
    config.validation = {{folder / "v", ""}};
    const Dataset dataset(config);
    Batch batch;
    dataset.MakeValidationBatch(0, TakeEvenly(2, 2), 0, 2, batch);
    int64_t expected = 0;
    for (const int32_t target : batch.targets) {
      expected += target >= 0 && target != 256 ? 1 : 0;
    }
    EXPECT_EQ(TargetBytes(batch, *MakeByteTokenizer()), expected);
    EXPECT_GT(expected, 3);
  }
}

// Pieces that begin with a space, that are cut by windows, and characters of several bytes: together they are the text
// but for its first token.
TEST(TargetBytes, OfPiecesAreTheText) {
  const TestFolder folder;
  std::string text;
  for (int i = 0; i < 300; ++i) {
    text += i % 7 == 0 ? "caf\xC3\xA9 au lait, " : i % 3 == 0 ? "the window reads text. " : "summary of a chunk ";
  }
  testing::WriteFile(folder / "text", text);
  TrainTokenizerOptions options;
  options.inputs = {folder / "text"};
  options.output = folder / "small.model";
  options.training.vocab_size = 290;
  static_cast<void>(TrainTokenizer(options));
  const std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(options.output);
  std::vector<int32_t> tokens;
  tokenizer->Encode(text, tokens);
  ASSERT_GT(tokens.size(), 500U);
  const auto all = static_cast<int64_t>(tokenizer->Decode(tokens).size());
  const auto first = static_cast<int64_t>(tokenizer->Decode(std::span(tokens).first(1)).size());
  tokens.push_back(static_cast<int32_t>(tokenizer->eos_id()));
  for (const int32_t length : {7, 64, 4096}) {
    for (const bool mask : {false, true}) {
      EXPECT_EQ(BytesOfText(TextSamples(tokens, ConfigOf(length, mask)), *tokenizer), all - first) << length;
    }
  }
}

TEST(TargetBytes, TurnNatsIntoBits) {
  EXPECT_DOUBLE_EQ(BitsPerByte(8 * std::log(2.0), 4), 2.0);
}

TEST(TargetBytes, IdsOfAnUnknownVocabularySpellNothing) {
  EXPECT_FALSE(MakeExternalTokenizer("gpt2", 50257, 50256)->SpellsText());
  EXPECT_TRUE(MakeByteTokenizer()->SpellsText());
}

}  // namespace
}  // namespace ksa
