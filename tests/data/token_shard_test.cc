#include "data/shards/token_shard.h"

#include <unistd.h>

#include <random>

#include <gtest/gtest.h>
#include <hdf5.h>
#include <xxhash.h>

#include "data/shards/bus_guard.h"
#include "data/shards/shard_folder.h"
#include "tests/data/support.h"

#ifdef __SANITIZE_ADDRESS__
// HDF5 1.10 loses a few small blocks of its own when it refuses a damaged file.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libhdf5";
}
#endif

namespace ksa {
namespace {

using testing::TestDocuments;
using testing::TestFolder;
using testing::TokensOf;
using testing::WriteShards;

TestDocuments SomeDocuments(int count, unsigned seed, int32_t eos = 256) {
  std::mt19937 random(seed);
  TestDocuments documents;
  for (int d = 0; d < count; ++d) {
    std::vector<int32_t> document(1 + random() % 50);
    for (int32_t& token : document) {
      token = static_cast<int32_t>(random() % 256);
    }
    document.push_back(eos);
    documents.push_back(document);
  }
  return documents;
}

std::vector<int32_t> Flat(const TestDocuments& documents) {
  std::vector<int32_t> tokens;
  for (const std::vector<int32_t>& document : documents) {
    tokens.insert(tokens.end(), document.begin(), document.end());
  }
  return tokens;
}

std::string OnlyShard(const std::string& folder) {
  return (std::filesystem::path(folder) / ReadShardIndex(folder).shards.front().file).string();
}

// --- round trips

TEST(TokenShard, GivesBackWhatWasWritten) {
  const TestFolder folder;
  const TestDocuments documents = SomeDocuments(500, 1);
  WriteShards(folder / "s", {documents}, *MakeByteTokenizer());
  const ShardFolder opened(folder / "s");
  ASSERT_EQ(opened.shards().size(), 1U);
  const TokenShard& shard = opened.shards().front();
  EXPECT_EQ(std::filesystem::path(shard.path()).filename(), "part-00000-of-00001.h5");
  EXPECT_EQ(TokensOf(shard), Flat(documents));
  EXPECT_EQ(shard.documents(), 500);
  EXPECT_EQ(shard.info().vocab_size, 257);
  EXPECT_EQ(shard.info().max_token, 256);
  EXPECT_EQ(shard.info().eos_id, 256);
  EXPECT_EQ(shard.info().tokenizer, "byte");
  uint64_t begin = 0;
  for (size_t d = 0; d < documents.size(); ++d) {
    EXPECT_EQ(shard.document_offsets()[d], begin);
    begin += documents[d].size();
  }
  EXPECT_EQ(shard.document_offsets().back(), begin);
  shard.Verify();
  std::vector<int32_t> part(7);
  shard.Read(100, part);
  const std::vector<int32_t> flat = Flat(documents);
  EXPECT_EQ(part, std::vector<int32_t>(flat.begin() + 100, flat.begin() + 107));
}

TEST(TokenShard, LargeVocabulariesTakeFourBytesAndHashesCoverBlocks) {
  const TestFolder folder;
  const auto tokenizer = MakeExternalTokenizer("wide", 100000, 99999);
  std::vector<int32_t> tokens(static_cast<size_t>(2 * kBlockTokens + 5));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(i * 7919 % 99000);
  }
  tokens.back() = 99999;
  WriteShards(folder / "s", {{tokens}}, *tokenizer);
  const std::string path = OnlyShard(folder / "s");
  const TokenShard shard(path);
  EXPECT_EQ(TokensOf(shard), tokens);
  shard.Verify();
  // The hashes, from the contract: XXH3-64 of every 2^20 tokens as u32.
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, "block_xxh3", H5P_DEFAULT);
  std::vector<uint64_t> hashes(3);
  const hid_t space = H5Dget_space(dataset);
  ASSERT_EQ(H5Sget_simple_extent_npoints(space), 3);
  H5Sclose(space);
  ASSERT_GE(H5Dread(dataset, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, hashes.data()), 0);
  H5Dclose(dataset);
  H5Fclose(file);
  const auto block = static_cast<size_t>(kBlockTokens);
  EXPECT_EQ(hashes[0], XXH3_64bits(tokens.data(), block * 4));
  EXPECT_EQ(hashes[1], XXH3_64bits(tokens.data() + block, block * 4));
  EXPECT_EQ(hashes[2], XXH3_64bits(tokens.data() + 2 * block, 5 * 4));
  EXPECT_EQ(shard.info().tokens_xxh3, XXH3_64bits(tokens.data(), tokens.size() * 4));
}

TEST(TokenShard, HoldsTheDatasetsOfTheContractReadThroughHdf5) {
  const TestFolder folder;
  const TestDocuments documents = SomeDocuments(20, 2);
  WriteShards(folder / "s", {documents}, *MakeByteTokenizer());
  const hid_t file = H5Fopen(OnlyShard(folder / "s").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const hid_t dataset = H5Dopen2(file, "tokens", H5P_DEFAULT);
  const hid_t type = H5Dget_type(dataset);
  EXPECT_GT(H5Tequal(type, H5T_STD_U16LE), 0);
  H5Tclose(type);
  EXPECT_EQ(H5Dget_offset(dataset) % 4096, 0U);
  std::vector<int32_t> tokens(Flat(documents).size());
  ASSERT_GE(H5Dread(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, tokens.data()), 0);
  EXPECT_EQ(tokens, Flat(documents));
  H5Dclose(dataset);
  H5Fclose(file);
}

TEST(ShardWriter, RefusesWhatIsNoShard) {
  const TestFolder folder;
  const ShardVocabulary byte{"byte", 0, 257, 256};
  EXPECT_KSA_ERROR(ShardWriter(folder / "absent", byte), ExitCode::kCannotCreate, "absent");
  ShardWriter empty(folder.path().string(), byte);
  EXPECT_KSA_ERROR(empty.Finish(folder / "x.h5"), ExitCode::kBadData, "empty");
  ShardWriter foreign(folder.path().string(), byte);
  EXPECT_KSA_ERROR(foreign.Append(std::vector<int32_t>{1, 257}), ExitCode::kBadData, "token 257 at position 1");
  EXPECT_KSA_ERROR(foreign.Append(std::vector<int32_t>{-1}), ExitCode::kBadData, "token -1");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// --- damage

TEST(TokenShard, EveryTruncationIsRefused) {
  const TestFolder folder;
  WriteShards(folder / "s", {SomeDocuments(3000, 3)}, *MakeByteTokenizer());
  const std::string whole = testing::ReadFile(OnlyShard(folder / "s"));
  const std::string cut = folder / "cut.h5";
  for (const size_t bytes : {size_t{0},
                             size_t{1},
                             size_t{47},
                             size_t{48},
                             size_t{512},
                             size_t{4096},
                             size_t{5000},
                             whole.size() / 2,
                             whole.size() - 4096,
                             whole.size() - 1}) {
    testing::WriteFile(cut, whole.substr(0, bytes));
    EXPECT_KSA_ERROR(TokenShard(cut), ExitCode::kBadData, "cut.h5");
  }
}

// A flipped bit anywhere is found, also where nothing is ever read.
TEST(TokenShard, EveryFlipIsFound) {
  const TestFolder folder;
  const TestDocuments documents = SomeDocuments(400, 4);
  WriteShards(folder / "s", {documents}, *MakeByteTokenizer());
  const std::string whole = testing::ReadFile(OnlyShard(folder / "s"));
  const std::string path = folder / "flipped.h5";
  std::mt19937 random(5);
  for (int trial = 0; trial < 600; ++trial) {
    std::string flipped = whole;
    // Half of the flips in the first pages, which hold the header.
    const size_t at = random() % (trial % 2 == 0 ? size_t{8192} : whole.size());
    flipped[at] = static_cast<char>(flipped[at] ^ static_cast<char>(1U << (random() % 8)));
    testing::WriteFile(path, flipped);
    const Error error = testing::ErrorOf([&] { TokenShard(path).Verify(); });
    ASSERT_EQ(error.code(), ExitCode::kBadData) << "byte " << at << ": " << error.what();
  }
}

TEST(TokenShard, VerifyNamesTheBlock) {
  const TestFolder folder;
  std::vector<int32_t> tokens(static_cast<size_t>(kBlockTokens) + 10, 65);
  tokens.back() = 256;
  WriteShards(folder / "s", {{tokens}}, *MakeByteTokenizer());
  std::string bytes = testing::ReadFile(OnlyShard(folder / "s"));
  bytes[bytes.find("A\0A\0A\0A\0", 0, 8) + static_cast<size_t>(2 * kBlockTokens) + 4] = 'B';
  testing::WriteFile(OnlyShard(folder / "s"), bytes);
  const ShardFolder opened(folder / "s");  // tokens are not read on open
  EXPECT_KSA_ERROR(opened.shards().front().Verify(), ExitCode::kBadData, "block 1");
}

TEST(TokenShard, MissingAndForeignFilesAreNamed) {
  const TestFolder folder;
  EXPECT_KSA_ERROR(TokenShard(folder / "none.h5"), ExitCode::kMissingInput, "none.h5");
  testing::WriteFile(folder / "text.h5", std::string(10000, 'x'));
  EXPECT_KSA_ERROR(TokenShard(folder / "text.h5"), ExitCode::kBadData, "text.h5");
  const hid_t file = H5Fcreate((folder / "other.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  H5Fclose(file);
  EXPECT_KSA_ERROR(TokenShard(folder / "other.h5"), ExitCode::kBadData, "not a token shard");
}

// Files that carry the right attributes but keep their data in another way.
class ForeignShard : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteShards(folder_ / "s", {{{1, 2, 3, 256}}}, *MakeByteTokenizer());
    path_ = OnlyShard(folder_ / "s");
    file_ = H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(H5Ldelete(file_, "tokens", H5P_DEFAULT), 0);
  }

  // Puts another /tokens into the file and expects it to be refused.
  void Expect(hid_t type, const std::vector<hsize_t>& dims, hid_t properties, const char* part) {
    const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
    const hid_t dataset = H5Dcreate2(file_, "tokens", type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    ASSERT_GE(dataset, 0);
    const std::vector<uint64_t> zeros(64);
    ASSERT_GE(H5Dwrite(dataset, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros.data()), 0);
    H5Dclose(dataset);
    H5Sclose(space);
    if (properties != H5P_DEFAULT) {
      H5Pclose(properties);
    }
    H5Fclose(file_);
    EXPECT_KSA_ERROR(TokenShard(path_), ExitCode::kBadData, part);
  }

  TestFolder folder_;
  std::string path_;
  hid_t file_ = -1;
};

TEST_F(ForeignShard, ElementType) {
  Expect(H5T_STD_I32LE, {4}, H5P_DEFAULT, "element type");
}

TEST_F(ForeignShard, Rank) {
  Expect(H5T_STD_U16LE, {2, 2}, H5P_DEFAULT, "vector of 4");
}

TEST_F(ForeignShard, Length) {
  Expect(H5T_STD_U16LE, {5}, H5P_DEFAULT, "vector of 4");
}

TEST_F(ForeignShard, ChunksAndFilters) {
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk = 2;
  H5Pset_chunk(properties, 1, &chunk);
  H5Pset_shuffle(properties);
  Expect(H5T_STD_U16LE, {4}, properties, "contiguous");
}

TEST_F(ForeignShard, ExternalStorage) {
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  const std::string outside = folder_ / "outside.bin";
  H5Pset_external(properties, outside.c_str(), 0, 8);
  Expect(H5T_STD_U16LE, {4}, properties, "in the file itself");
}

TEST_F(ForeignShard, Links) {
  ASSERT_GE(H5Lcreate_external("other.h5", "/tokens", file_, "tokens", H5P_DEFAULT, H5P_DEFAULT), 0);
  H5Fclose(file_);
  EXPECT_KSA_ERROR(TokenShard(path_), ExitCode::kBadData, "link");
}

TEST_F(ForeignShard, MissingDataset) {
  H5Fclose(file_);
  EXPECT_KSA_ERROR(TokenShard(path_), ExitCode::kBadData, "tokens");
}

// --- the index

TEST(ShardFolder, AShardThatChangedUnderTheIndexIsRefused) {
  const TestFolder folder;
  WriteShards(folder / "a", {SomeDocuments(10, 1)}, *MakeByteTokenizer());
  WriteShards(folder / "b", {SomeDocuments(10, 9)}, *MakeByteTokenizer());
  std::filesystem::copy_file(
      OnlyShard(folder / "b"), OnlyShard(folder / "a"), std::filesystem::copy_options::overwrite_existing);
  EXPECT_KSA_ERROR(ShardFolder(folder / "a"), ExitCode::kBadData, "index");
  std::filesystem::resize_file(OnlyShard(folder / "b"), 5000);
  EXPECT_KSA_ERROR(ShardFolder(folder / "b"), ExitCode::kBadData, "5000 bytes");
  std::filesystem::remove(OnlyShard(folder / "b"));
  EXPECT_KSA_ERROR(ShardFolder(folder / "b"), ExitCode::kMissingInput, "part-00000-of-00001.h5");
  EXPECT_KSA_ERROR(ShardFolder(folder / "none"), ExitCode::kMissingInput, "none");
}

TEST(ShardFolder, AForeignTokenizerFileIsRefused) {
  const TestFolder folder;
  WriteShards(folder / "s", {SomeDocuments(10, 1)}, *MakeByteTokenizer());
  testing::WriteFile(folder / "s/tokenizer.json", MakeExternalTokenizer("other", 257, 256)->file_contents());
  EXPECT_KSA_ERROR(ShardFolder(folder / "s"), ExitCode::kBadData, "not the tokenizer");
}

TEST(ShardIndex, RefusesWhatIsNoIndex) {
  const TestFolder folder;
  const ShardIndex index = WriteShards(folder / "s", {SomeDocuments(10, 1)}, *MakeByteTokenizer());
  const std::string path = folder / "s/index.json";
  const std::string good = testing::ReadFile(path);
  EXPECT_EQ(ToJson(ReadShardIndex(folder / "s")), good);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = good;
    changed.replace(changed.find(from), from.size(), to);
    testing::WriteFile(path, changed);
  };
  with("ksa-token-index", "other");
  EXPECT_KSA_ERROR(ReadShardIndex(folder / "s"), ExitCode::kBadData, "index.json");
  with("\"part-", "\"../part-");
  EXPECT_KSA_ERROR(ReadShardIndex(folder / "s"), ExitCode::kBadData, "plain file name");
  with("\"token_count\": ", "\"token_count\": 1");
  EXPECT_KSA_ERROR(ReadShardIndex(folder / "s"), ExitCode::kBadData, "sums");
  with("\"vocab_size\": ", "\"vocab_size\": -");
  EXPECT_KSA_ERROR(ReadShardIndex(folder / "s"), ExitCode::kBadData, "vocab_size");
  for (const char* name : {"STOP", "metrics.jsonl", "tokenizer.txt"}) {  // it would be copied into run folders so
    with("\"file\": \"tokenizer.json\"", fmt::format("\"file\": \"{}\"", name));
    EXPECT_KSA_ERROR(ReadShardIndex(folder / "s"), ExitCode::kBadData, name);
  }
  with(Hex(index.tokenizer_xxh3), "zz");
  EXPECT_KSA_ERROR(ReadShardIndex(folder / "s"), ExitCode::kBadData, "hexadecimal");
  testing::WriteFile(path, good.substr(0, good.size() / 2));
  EXPECT_KSA_ERROR(ReadShardIndex(folder / "s"), ExitCode::kBadData, "index.json");
  std::filesystem::remove(path);
  EXPECT_KSA_ERROR(ReadShardIndex(folder / "s"), ExitCode::kMissingInput, "index.json");
}

// --- a file cut short under the map

void TouchCutShard(const std::string& path, const std::string& log) {
  SetBusErrorLog(log);
  const TokenShard shard(path);
  std::filesystem::resize_file(path, 4096);
  std::vector<int32_t> tokens(static_cast<size_t>(shard.tokens()));
  shard.Read(0, tokens);
}

TEST(MappedFileDeathTest, ATruncatedFileEndsTheProcessWithItsNameAnd74) {
  const TestFolder folder;
  std::vector<int32_t> tokens(100000, 7);
  tokens.back() = 256;
  WriteShards(folder / "s", {{tokens}}, *MakeByteTokenizer());
  const std::string path = OnlyShard(folder / "s");
  const std::string log = folder / "log.txt";
  std::ofstream(log) << "before\n";
  EXPECT_EXIT(
      TouchCutShard(path, log), ::testing::ExitedWithCode(74), "part-00000-of-00001.h5: the file was cut short");
  std::ifstream file(log);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_EQ(text, "before\nerror: " + path + ": the file was cut short, or cannot be read, while it was in use\n");
}

}  // namespace
}  // namespace ksa
