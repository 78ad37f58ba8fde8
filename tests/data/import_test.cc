#include "data/tools/import.h"

#include <cstring>

#include <gtest/gtest.h>

#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string LlmcFile(const std::vector<uint16_t>& tokens, int32_t version = 1) {
  std::vector<int32_t> header(256);
  header[0] = 20240520;
  header[1] = version;
  header[2] = static_cast<int32_t>(tokens.size());
  return Bytes(header) + Bytes(tokens);
}

std::string MegatronIndex(uint8_t type,
                          const std::vector<int32_t>& lengths,
                          const std::vector<int64_t>& starts,
                          int64_t token_bytes) {
  std::string index("MMIDIDX\0\0", 9);
  index += Bytes(std::vector<uint64_t>{1}) + static_cast<char>(type);
  index += Bytes(std::vector<uint64_t>{lengths.size(), starts.size()}) + Bytes(lengths);
  std::vector<int64_t> offsets;
  int64_t offset = 0;
  for (const int32_t length : lengths) {
    offsets.push_back(offset);
    offset += length * token_bytes;
  }
  return index + Bytes(offsets) + Bytes(starts);
}

class ImportTest : public ::testing::Test {
 protected:
  ImportTest() {
    options_.vocab_size = 100;
    options_.eos_id = 9;
    options_.tokenizer_name = "tiny";
  }

  // Imports the .bin and gives its documents back, as ids.
  std::vector<std::vector<int32_t>> Run(const std::string& bytes) {
    testing::WriteFile(folder_ / "in.bin", bytes);
    options_.inputs = {folder_ / "in.bin"};
    options_.output = folder_ / fmt::format("out-{}", outputs_++);
    static_cast<void>(ImportTokens(options_));
    std::vector<std::vector<int32_t>> documents;
    const ShardFolder folder(options_.output);
    for (const TokenShard& shard : folder.shards()) {
      shard.Verify();
      const std::vector<int32_t> tokens = testing::TokensOf(shard);
      const auto offsets = shard.document_offsets();
      for (size_t d = 0; d + 1 < offsets.size(); ++d) {
        documents.emplace_back(tokens.begin() + static_cast<int64_t>(offsets[d]),
                               tokens.begin() + static_cast<int64_t>(offsets[d + 1]));
      }
    }
    return documents;
  }

  TestFolder folder_;
  ImportOptions options_;
  int outputs_ = 0;
};

using Found = std::vector<std::vector<int32_t>>;

TEST_F(ImportTest, Llmc) {
  // As llm.c writes it: every document begins with the end-of-text token.
  EXPECT_EQ(Run(LlmcFile({9, 1, 2, 9, 3, 9, 9, 4, 5})), Found({{1, 2, 9}, {3, 9}, {4, 5, 9}}));
  const ShardFolder folder(options_.output);
  EXPECT_EQ(folder.index().tokenizer, "tiny");
  EXPECT_EQ(folder.index().vocab_size, 100);
}

TEST_F(ImportTest, NanoGptAndThePathToIt) {
  EXPECT_EQ(Run(Bytes(std::vector<uint16_t>{1, 2, 9, 3, 9})), Found({{1, 2, 9}, {3, 9}}));
}

TEST_F(ImportTest, Raw) {
  testing::WriteFile(folder_ / "in.bin.meta", "{\"dtype\": \"int32\", \"count\": 4}");
  EXPECT_EQ(Run(Bytes(std::vector<int32_t>{1, 9, 99, 9})), Found({{1, 9}, {99, 9}}));
  testing::WriteFile(folder_ / "in.bin.meta", "<class 'numpy.uint8'>");
  EXPECT_EQ(Run(Bytes(std::vector<uint8_t>{1, 9, 7})), Found({{1, 9}, {7, 9}}));
  testing::WriteFile(folder_ / "in.bin.meta", "dtype: <i8\n");
  EXPECT_EQ(Run(Bytes(std::vector<int64_t>{1, 9, 7})), Found({{1, 9}, {7, 9}}));
  testing::WriteFile(folder_ / "in.bin.meta", "uint16");
  EXPECT_EQ(Run(Bytes(std::vector<uint16_t>{1, 9, 7})), Found({{1, 9}, {7, 9}}));
}

TEST_F(ImportTest, Megatron) {
  // Sequences of 2, 1, 3 and 0 tokens; documents of the first two, the third and the empty one.
  testing::WriteFile(folder_ / "in.idx", MegatronIndex(4, {2, 1, 3, 0}, {0, 2, 3, 4}, 4));
  EXPECT_EQ(Run(Bytes(std::vector<int32_t>{1, 2, 3, 4, 5, 9})), Found({{1, 2, 3, 9}, {4, 5, 9}}));
  testing::WriteFile(folder_ / "in.idx", MegatronIndex(8, {3, 3}, {0, 1, 2}, 2));
  EXPECT_EQ(Run(Bytes(std::vector<uint16_t>{1, 2, 3, 4, 5, 6})), Found({{1, 2, 3, 9}, {4, 5, 6, 9}}));
}

TEST_F(ImportTest, MegatronIndexesThatLieAreRefused) {
  const std::string tokens = Bytes(std::vector<uint16_t>{1, 2, 3});
  const auto expect = [&](const std::string& index, const char* part) {
    testing::WriteFile(folder_ / "in.idx", index);
    EXPECT_KSA_ERROR(Run(tokens), ExitCode::kBadData, part);
  };
  const std::string good = MegatronIndex(8, {2, 1}, {0, 1, 2}, 2);
  expect("short", "not an index");
  expect("X" + good.substr(1), "not an index");
  expect(good.substr(0, good.size() - 1), "do not fit");
  expect(good.substr(0, 18) + Bytes(std::vector<uint64_t>{uint64_t{1} << 62U, 1}), "do not fit");
  expect(MegatronIndex(6, {2, 1}, {0, 1, 2}, 2), "type code 6");
  expect(MegatronIndex(8, {2, 2}, {0, 1, 2}, 2), "counts 4");
  expect(MegatronIndex(8, {2, 1}, {0, 3}, 2), "sequence 3");
  expect(MegatronIndex(8, {2, 1}, {1, 0}, 2), "out of order");
  expect(MegatronIndex(8, {2, 1}, {0, 1, 2}, 4), "does not follow");
}

TEST_F(ImportTest, ManyTokensAndShards) {
  std::vector<uint16_t> tokens;
  for (int i = 0; i < 700'000; ++i) {
    tokens.push_back(static_cast<uint16_t>(i % 11 == 10 ? 9 : 10 + i % 80));
  }
  options_.shards = 4;
  const Found documents = Run(Bytes(tokens));
  EXPECT_EQ(ShardFolder(options_.output).shards().size(), 4U);
  size_t at = 0;
  for (const std::vector<int32_t>& document : documents) {
    for (const int32_t token : document) {
      if (at < tokens.size()) {
        ASSERT_EQ(token, tokens[at]);
      }
      ++at;
    }
  }
  EXPECT_EQ(at, tokens.size() + 1);  // the last document had no end
}

TEST_F(ImportTest, LlmcOfLlama3IsU32) {
  options_.vocab_size = 128256;
  std::vector<int32_t> header(256);
  header[0] = 20240801;
  header[1] = 7;
  header[2] = 5;
  EXPECT_EQ(Run(Bytes(header) + Bytes(std::vector<uint32_t>{9, 100000, 2, 9, 3})), Found({{100000, 2, 9}, {3, 9}}));
  header[1] = 1;
  EXPECT_KSA_ERROR(Run(Bytes(header) + Bytes(std::vector<uint32_t>{9, 1, 2, 9, 3})), ExitCode::kBadData, "version 1");
}

// Any bytes are u16: what is known to be something else is not guessed to be tokens.
TEST_F(ImportTest, ForeignFilesAreNotGuessedToBeU16) {
  const auto refused = [&](const std::string& beginning, const char* part) {
    EXPECT_KSA_ERROR(Run(beginning + std::string(1000, '\x01')), ExitCode::kBadData, part);
  };
  refused(Bytes(std::vector<int32_t>{20240522, 1}), "evaluation file of llm.c");
  refused("BIN.TOK\n", "LLM.Q");
  refused("\x93NUMPY\x01\x00", "NumPy");
  refused("\x89HDF\r\n\x1a\n", "HDF5");
  refused("\x1f\x8b\x08\x00", "gzip");
  refused("\x28\xb5\x2f\xfd", "zstd");
  refused("PK\x03\x04", "zip");
  refused("MMIDIDX", "Megatron");
  // u32 and u64 that are small, in both byte orders; a few numbers say nothing.
  std::vector<uint32_t> wide;
  std::vector<uint16_t> swapped;
  for (uint32_t i = 0; i < 40; ++i) {
    wide.push_back(10 + i);
    swapped.push_back(0);
    swapped.push_back(static_cast<uint16_t>(10 + i));
  }
  EXPECT_KSA_ERROR(Run(Bytes(wide)), ExitCode::kBadData, "every second number is 0");
  EXPECT_KSA_ERROR(Run(Bytes(swapped)), ExitCode::kBadData, "every second number is 0");
  EXPECT_EQ(Run(Bytes(std::vector<uint16_t>{1, 0, 2, 0})), Found({{1, 0, 2, 0, 9}}));
  options_.vocab_size = 65537;
  EXPECT_KSA_ERROR(Run(Bytes(std::vector<uint16_t>{1, 2, 9})), ExitCode::kBadData, "u16 cannot hold");
  // The advice of these messages is taken.
  options_.format = ImportFormat::kNanoGpt;
  EXPECT_EQ(Run(Bytes(std::vector<uint16_t>{1, 2, 9})), Found({{1, 2, 9}}));
  EXPECT_EQ(Run(Bytes(wide)).size(), 1U);
  options_.format = ImportFormat::kAuto;
  testing::WriteFile(folder_ / "in.bin.meta", "uint32");
  EXPECT_EQ(Run(Bytes(std::vector<uint32_t>{1, 65536, 9})), Found({{1, 65536, 9}}));
}

TEST_F(ImportTest, NoEndOfDocumentIsSaid) {
  std::string warned;
  options_.warn = [&](const std::string& text) { warned += text; };
  static_cast<void>(Run(Bytes(std::vector<uint16_t>{1, 2, 9})));
  EXPECT_EQ(warned, "");
  EXPECT_EQ(Run(Bytes(std::vector<uint16_t>{1, 2, 3})), Found({{1, 2, 3, 9}}));
  EXPECT_NE(warned.find("end-of-document token 9 is nowhere in the input"), std::string::npos);
}

TEST_F(ImportTest, BadFiles) {
  EXPECT_KSA_ERROR(Run(Bytes(std::vector<uint16_t>{1, 100, 9})), ExitCode::kBadData, "token 100 at position 1");
  EXPECT_KSA_ERROR(Run("odd"), ExitCode::kBadData, "no whole number");
  EXPECT_KSA_ERROR(Run(LlmcFile({1, 2}, 2)), ExitCode::kBadData, "version 2");
  EXPECT_KSA_ERROR(Run(LlmcFile({1, 2}) + "ab"), ExitCode::kBadData, "the file holds 3");
  EXPECT_KSA_ERROR(Run(Bytes(std::vector<uint16_t>{9, 9})), ExitCode::kBadData, "no document");
  EXPECT_KSA_ERROR(Run(""), ExitCode::kBadData, "no document");
  options_.format = ImportFormat::kLlmc;
  EXPECT_KSA_ERROR(Run(Bytes(std::vector<uint16_t>{1, 9})), ExitCode::kBadData, "not a token file of llm.c");
  options_.format = ImportFormat::kAuto;
  testing::WriteFile(folder_ / "in.bin.meta", "float32");
  EXPECT_KSA_ERROR(Run("1234"), ExitCode::kBadData, "names no integer type");
  testing::WriteFile(folder_ / "in.bin.meta", "int32 or uint16");
  EXPECT_KSA_ERROR(Run("1234"), ExitCode::kBadData, "more than one");
  testing::WriteFile(folder_ / "in.bin.meta", "int32");
  EXPECT_KSA_ERROR(Run(Bytes(std::vector<int32_t>{1, -1})), ExitCode::kBadData, "token -1 at position 1");
  options_.inputs = {folder_ / "absent.bin"};
  EXPECT_KSA_ERROR(ImportTokens(options_), ExitCode::kMissingInput, "absent.bin");
  options_.vocab_size = 0;
  EXPECT_KSA_ERROR(ImportTokens(options_), ExitCode::kUsage, "--vocab-size");
}

}  // namespace
}  // namespace ksa
