// Hashes of small parts of a shard: what they are, that old shards without them are read, and what they save.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include <gtest/gtest.h>
#include <hdf5.h>
#include <xxhash.h>

#include "data/loader/batch_stream.h"
#include "data/loader/dataset.h"
#include "data/shards/shard_folder.h"
#include "tests/data/support.h"

namespace {
std::atomic<int> flock_error{0};  // what flock answers; 0: what the system says
}  // namespace

// In front of the C library's for the whole program, HDF5 included.
extern "C" int flock(int fd, int operation) {
  if (flock_error != 0) {
    errno = flock_error;
    return -1;
  }
  return static_cast<int>(syscall(SYS_flock, fd, operation));
}

namespace ksa {
namespace {

using testing::TestFolder;
using testing::TokensOf;
using testing::WriteShards;

// 2^20 + 2^13 + 5 tokens: 130 leaves, the last of 5 tokens, over two blocks.
std::vector<int32_t> SomeTokens() {
  std::vector<int32_t> tokens(static_cast<size_t>(kBlockTokens + kLeafTokens) + 5);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(i * 7919 % 251);
  }
  tokens.back() = 256;
  return tokens;
}

std::string WriteOne(const std::string& folder, const std::vector<int32_t>& tokens) {
  return folder + "/" + WriteShards(folder, {{tokens}}, *MakeByteTokenizer()).shards[0].file;
}

// Flips a bit of a token, where the shard's tokens begin.
void DamageToken(const std::string& path, int64_t token) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, "tokens", H5P_DEFAULT);
  const auto at = static_cast<size_t>(H5Dget_offset(dataset)) + static_cast<size_t>(2 * token);
  H5Dclose(dataset);
  H5Fclose(file);
  std::string bytes = testing::ReadFile(path);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  testing::WriteFile(path, bytes);
}

TEST(LeafHashes, AreThoseOfTheContract) {
  const TestFolder folder;
  const std::vector<int32_t> tokens = SomeTokens();
  const std::string path = WriteOne(folder / "s", tokens);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, "leaf_xxh3", H5P_DEFAULT);
  const hid_t space = H5Dget_space(dataset);
  std::vector<uint64_t> leaves(130);
  ASSERT_EQ(H5Sget_simple_extent_npoints(space), 130);
  ASSERT_GE(H5Dread(dataset, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, leaves.data()), 0);
  H5Sclose(space);
  H5Dclose(dataset);
  H5Fclose(file);
  const std::vector<uint16_t> stored(tokens.begin(), tokens.end());
  for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
    const size_t begin = leaf << 13U;
    ASSERT_EQ(leaves[leaf], XXH3_64bits(stored.data() + begin, 2 * std::min<size_t>(8192, stored.size() - begin)));
  }
  const TokenShard shard(path);
  EXPECT_EQ(shard.info().leaf_xxh3_xxh3, XXH3_64bits(leaves.data(), leaves.size() * 8));
  EXPECT_EQ(shard.check_tokens(), 8192);
  shard.Verify();
}

TEST(LeafHashes, ADamagedTokenSpoilsItsLeafAlone) {
  const TestFolder folder;
  const std::string path = WriteOne(folder / "s", SomeTokens());
  DamageToken(path, kBlockTokens + 100);
  const TokenShard shard(path);
  EXPECT_TRUE(shard.IsGood(127));
  EXPECT_FALSE(shard.IsGood(128));
  EXPECT_FALSE(shard.IsGood(128));
  EXPECT_EQ(shard.checked_bytes(), 2 * 2 * 8192);  // once each
  EXPECT_TRUE(shard.IsGood(129));
  EXPECT_EQ(shard.checked_bytes(), 2 * 2 * 8192 + 2 * 5);
  EXPECT_KSA_ERROR(shard.Verify(), ExitCode::kBadData, "block 1");
}

TEST(LeafHashes, ShardsWithoutThemAreRead) {
  const TestFolder folder;
  const std::vector<int32_t> tokens = SomeTokens();
  const std::string path = WriteOne(folder / "s", tokens);
  testing::RemoveLeaves(folder / "s");
  {
    const ShardFolder opened(folder / "s");
    const TokenShard& shard = opened.shards().front();
    EXPECT_EQ(shard.check_tokens(), kBlockTokens);
    EXPECT_TRUE(shard.IsGood(0));
    EXPECT_TRUE(shard.IsGood(1));
    EXPECT_EQ(shard.checked_bytes(), 2 * static_cast<int64_t>(tokens.size()));
    EXPECT_EQ(TokensOf(shard), tokens);
    shard.Verify();
  }
  DamageToken(path, kBlockTokens + 100);
  const TokenShard damaged(path);
  EXPECT_TRUE(damaged.IsGood(0));
  EXPECT_FALSE(damaged.IsGood(1));
}

// 64 data ranks, each a process of its own, one epoch: what they read to check hashes, in sizes of the corpus.
double ReadOver(const std::string& folder, int32_t sequence_length) {
  constexpr int64_t kRanks = 64;
  DatasetConfig config;
  config.train = {{folder, 1, ""}};
  config.sequence_length = sequence_length;
  config.vocab_size = 257;
  int64_t read = 0;
  Batch batch;
  for (int64_t rank = 0; rank < kRanks; ++rank) {
    const Dataset dataset(config);
    const int64_t samples = dataset.train_sources()[0].samples;
    for (int64_t first = rank; first < samples; first += kRanks) {
      dataset.MakeBatch(first, 1, batch);
    }
    read += dataset.CheckedBytes();
  }
  const ShardFolder opened(folder);
  return static_cast<double>(read) / static_cast<double>(2 * opened.index().tokens());
}

TEST(LeafHashes, SixtyFourRanksReadWhatTheyTrainOn) {
  const TestFolder folder;
  std::vector<int32_t> tokens(static_cast<size_t>(4 * kBlockTokens));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(i * 31 % 256);
  }
  tokens.back() = 256;
  WriteOne(folder / "s", tokens);
  // A sample of T + 1 tokens lies in two leaves when T is a leaf's length, and in 5 when it is four of them.
  const double leaves = ReadOver(folder / "s", 8192);
  const double long_leaves = ReadOver(folder / "s", 4 * 8192);
  testing::RemoveLeaves(folder / "s");
  const double blocks = ReadOver(folder / "s", 8192);
  RecordProperty("leaves", fmt::format("{:.2f}", leaves));
  RecordProperty("leaves_of_32k", fmt::format("{:.2f}", long_leaves));
  RecordProperty("blocks", fmt::format("{:.2f}", blocks));
  EXPECT_LE(leaves, 2.0);
  EXPECT_LE(long_leaves, 1.25);
  EXPECT_GT(blocks, 40.0);  // nearly every rank reads nearly every block
}

// Network file systems without locks: HDF5 asks for none, whether it reads or writes.
TEST(ShardFiles, NeedNoLocks) {
  const TestFolder folder;
  for (const int error : {ENOLCK, ENOTSUP, ENOSYS}) {
    flock_error = error;
    const std::string name = folder / fmt::format("s{}", error);
    EXPECT_NO_THROW(WriteOne(name, SomeTokens()));
    EXPECT_NO_THROW(ShardFolder(name).shards().front().Verify());
    flock_error = 0;
  }
}

// What HDF5 could not do is told in the words of the system.
TEST(ShardFiles, AFullDiskIsCalledOne) {
  const TestFolder folder;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  TokenFileInfo info;
  info.vocab_size = 257;
  info.token_count = 100000;
  info.document_count = 1;
  info.tokenizer = "byte";
  EXPECT_KSA_ERROR(WriteTokenFileFrame(folder / "x.h5", info), ExitCode::kIo, "File too large");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, handler);
  EXPECT_KSA_ERROR(WriteTokenFileFrame(folder / "none/x.h5", info), ExitCode::kCannotCreate, "No such file");
}

}  // namespace
}  // namespace ksa
