// Compressed text is the text: the same documents, wherever it is cut; what is damaged is told from what is whole.
#include <random>

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "data/tools/tokenize.h"
#include "data/tools/train_tokenizer.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;
using testing::TextsOf;

std::string Gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  std::string from = text;
  stream.next_in = reinterpret_cast<Bytef*>(from.data());
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(packed.size() - stream.avail_out);
  deflateEnd(&stream);
  return packed;
}

std::string Zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  const size_t bytes = ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3);
  EXPECT_EQ(ZSTD_isError(bytes), 0U);
  packed.resize(bytes);
  return packed;
}

using Pack = std::string (*)(const std::string&);

struct Kind {
  Pack pack;
  const char* suffix;
};

constexpr std::array<Kind, 2> kKinds = {{{Gzip, ".gz"}, {Zstd, ".zst"}}};

// Some megabytes that pack well in parts and badly in others.
std::string LongText() {
  std::mt19937 random(7);
  std::string text;
  while (text.size() < 2'500'000) {
    std::string line = "line " + std::to_string(text.size()) + " \xE4\xB8\xAD ";
    for (unsigned i = random() % 300; i > 0; --i) {
      line += static_cast<char>('a' + random() % (text.size() % 1'000'000 < 500'000 ? 2 : 26));
    }
    text += line + (random() % 20 == 0 ? "\n\n" : "\n");
  }
  return text;
}

TokenizeSummary Tokenize(const std::string& input, const std::string& output, TokenizeOptions options = {}) {
  options.inputs = {input};
  options.output = output;
  options.threads = 3;
  return TokenizeText(options);
}

class CompressedInputTest : public ::testing::Test {
 protected:
  TestFolder folder_;
};

TEST_F(CompressedInputTest, GivesTheSameDocuments) {
  const std::string text = LongText();
  testing::WriteFile(folder_ / "plain.txt", text);
  for (const Documents documents : {Documents::kLine, Documents::kBlankLine, Documents::kFile}) {
    TokenizeOptions options;
    options.encode.documents = documents;
    options.validation_fraction = documents == Documents::kFile ? 0 : 0.1;
    const std::string part = documents == Documents::kFile ? "" : "/validation";
    const std::string name = std::to_string(static_cast<int>(documents));
    static_cast<void>(Tokenize(folder_ / "plain.txt", folder_ / ("plain" + name), options));
    const auto expected = TextsOf(folder_ / ("plain" + name + part));
    for (const Kind& kind : kKinds) {
      testing::WriteFile(folder_ / "packed", kind.pack(text));  // the contents tell, not the name
      const TokenizeSummary summary = Tokenize(folder_ / "packed", folder_ / (name + kind.suffix), options);
      EXPECT_EQ(summary.bytes, static_cast<int64_t>(text.size()));
      EXPECT_TRUE(TextsOf(folder_ / (name + kind.suffix + part)) == expected) << kind.suffix << " " << name;
    }
  }
}

// `cat a.gz b.gz` is the text of both.
TEST_F(CompressedInputTest, MembersFollowOneAnother) {
  for (const Kind& kind : kKinds) {
    testing::WriteFile(folder_ / "two", kind.pack("one\ntwo") + kind.pack("") + kind.pack("\nthree\n"));
    static_cast<void>(Tokenize(folder_ / "two", folder_ / (std::string("out") + kind.suffix)));
    EXPECT_EQ(TextsOf(folder_ / (std::string("out") + kind.suffix)), (std::vector<std::string>{"one", "two", "three"}));
  }
}

TEST_F(CompressedInputTest, ShardsAreCutByTheFile) {
  const std::string text = LongText();
  for (const Kind& kind : kKinds) {
    testing::WriteFile(folder_ / "packed", kind.pack(text));
    TokenizeOptions options;
    options.shards = 3;
    const std::string output = folder_ / (std::string("shards") + kind.suffix);
    EXPECT_EQ(Tokenize(folder_ / "packed", output, options).shards, 3);
    const ShardFolder shards(output);
    for (const TokenShard& shard : shards.shards()) {
      EXPECT_GT(shard.tokens(), static_cast<int64_t>(text.size() / 10));
    }
  }
}

TEST_F(CompressedInputTest, DamageIsBadData) {
  const std::string text = LongText().substr(0, 600'000);
  for (const Kind& kind : kKinds) {
    const std::string good = kind.pack(text);
    const auto refused = [&](const std::string& packed, const char* message) {
      testing::WriteFile(folder_ / "bad", packed);
      EXPECT_KSA_ERROR(Tokenize(folder_ / "bad", folder_ / "never"), ExitCode::kBadData, message);
      EXPECT_FALSE(std::filesystem::exists(folder_ / "never"));
    };
    refused(good.substr(0, good.size() - 1), "breaks off");
    refused(good.substr(0, good.size() / 2), "breaks off");
    refused(good.substr(0, 5), "breaks off");
    refused(good + "garbage", "bad: the compressed data");
    std::string flipped = good;
    flipped[good.size() / 2] = static_cast<char>(flipped[good.size() / 2] ^ 0x55);
    refused(flipped, "bad: ");
    refused(kind.pack(""), "no document");
    refused(kind.pack("a\nb\xFF\n"), "bad:2: byte 3: not UTF-8");
  }
}

TEST_F(CompressedInputTest, JsonNeedsItsField) {
  for (const Kind& kind : kKinds) {
    const std::string path = folder_ / (std::string("a.jsonl") + kind.suffix);
    testing::WriteFile(path, kind.pack("{\"text\": \"one\"}\n{\"text\": \"two\"}\n"));
    EXPECT_KSA_ERROR(Tokenize(path, folder_ / "never"), ExitCode::kUsage, "--jsonl-field");
    TokenizeOptions options;
    options.encode.documents = Documents::kJsonLine;
    options.encode.jsonl_field = "text";
    static_cast<void>(Tokenize(path, folder_ / (std::string("json") + kind.suffix), options));
    EXPECT_EQ(TextsOf(folder_ / (std::string("json") + kind.suffix)), (std::vector<std::string>{"one", "two"}));
  }
}

}  // namespace
}  // namespace ksa
