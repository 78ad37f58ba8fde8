// Bytes of text a target, against the shards' own tokens.
#include "trainer/evaluate/bytes_per_target.h"

#include <gtest/gtest.h>

#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestDocuments;
using testing::TestFolder;
using testing::WriteShards;

constexpr int32_t kEnd = 256;

DatasetConfig ConfigOf(const std::string& folder) {
  DatasetConfig config;
  config.train = {{folder, 1, "train"}};
  config.validation = {{folder, "validation"}};
  config.sequence_length = 4;
  config.chunk_size = 2;
  config.vocab_size = 257;
  config.seed = 1;
  return config;
}

// Targets of [1 2 3 END 5 6 7 8 END]: sample 0 has 2 3 END 5, sample 1 has 6 7 8 END: six bytes in eight targets.
TEST(BytesPerTarget, AnEndOfDocumentIsNoText) {
  const TestFolder folder;
  WriteShards(folder / "s", {TestDocuments{{1, 2, 3, kEnd}, {5, 6, 7, 8, kEnd}}}, *MakeByteTokenizer());
  const Dataset dataset(ConfigOf(folder / "s"));
  ASSERT_EQ(dataset.validation_sources()[0].samples, 2);
  const std::unique_ptr<Tokenizer> tokenizer = MakeByteTokenizer();
  EXPECT_EQ(BytesPerTarget(dataset, 0, TakeEvenly(2, 2), *tokenizer), 6.0 / 8.0);
  EXPECT_EQ(BytesPerTarget(dataset, 0, TakeEvenly(1, 2), *tokenizer), 3.0 / 4.0);
}

TEST(BytesPerTarget, ImportedTokensHaveNoText) {
  const TestFolder folder;
  const std::unique_ptr<Tokenizer> external = MakeExternalTokenizer("other", 257, kEnd);
  WriteShards(folder / "s", {TestDocuments{{1, 2, 3, kEnd}, {5, 6, 7, 8, kEnd}}}, *external);
  const Dataset dataset(ConfigOf(folder / "s"));
  EXPECT_EQ(BytesPerTarget(dataset, 0, TakeEvenly(2, 2), *external), std::nullopt);
}

}  // namespace
}  // namespace ksa
