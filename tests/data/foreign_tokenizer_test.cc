// Tokenizers of other programs are refused by name.
#include "data/tokenizers/foreign_tokenizer.h"

#include <gtest/gtest.h>

#include "data/tokenizers/tokenizer.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

constexpr const char* kHuggingFace =
    R"({"version": "1.0", "added_tokens": [{"id": 3, "content": "<|end|>"}, {"id": 1, "content": "b"}],
        "pre_tokenizer": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})";

TEST(ForeignTokenizer, IsNamed) {
  EXPECT_EQ(DescribeForeignTokenizer(kHuggingFace), "a tokenizer.json of Hugging Face's tokenizers (BPE, 4 tokens)");
  EXPECT_EQ(DescribeForeignTokenizer(R"({"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2.0]]}})"),
            "a tokenizer.json of Hugging Face's tokenizers (Unigram, 2 tokens)");
  EXPECT_EQ(DescribeForeignTokenizer(R"({"!": 0, "\"": 1})"),
            "a vocabulary alone (2 pieces with their ids, as in vocab.json)");
  EXPECT_EQ(DescribeForeignTokenizer("IQ== 0\nIg== 1\n"), "a vocabulary of tiktoken");
}

TEST(ForeignTokenizer, OthersAreNot) {
  for (const char* other : {"", "{", "{}", "[1]", R"({"model": 3})", "a 0\n", "abcd\n", "abcd \n", "abcd x\n"}) {
    EXPECT_EQ(DescribeForeignTokenizer(other), "") << other;
  }
  EXPECT_EQ(DescribeForeignTokenizer(MakeByteTokenizer()->file_contents()), "");
  EXPECT_EQ(DescribeForeignTokenizer(MakeExternalTokenizer("gpt2", 50257, 50256)->file_contents()), "");
}

TEST(ForeignTokenizer, OpeningOneSaysWhatToDo) {
  const testing::TestFolder folder;
  testing::WriteFile(folder / "tokenizer.json", kHuggingFace);
  EXPECT_KSA_ERROR(
      OpenTokenizer(folder / "tokenizer.json"), ExitCode::kBadData, "(BPE, 4 tokens), which cannot be read");
  EXPECT_KSA_ERROR(OpenTokenizer(folder / "tokenizer.json"), ExitCode::kBadData, "ksa data train-tokenizer");
}

TEST(ExternalTokenizer, SpellsNoText) {
  EXPECT_FALSE(MakeExternalTokenizer("gpt2", 50257, 50256)->SpellsText());
  EXPECT_TRUE(MakeByteTokenizer()->SpellsText());
}

}  // namespace
}  // namespace ksa
