#include "trainer/checkpoint/run_tokenizer.h"

#include <gtest/gtest.h>

#include "data/shards/shard_folder.h"
#include "data/tokenizers/tokenizer.h"
#include "tests/trainer/checkpoint/support.h"

namespace ksa {
namespace {

using testing::ScratchFolder;
using testing::Spill;
namespace fs = std::filesystem;

Dataset DataOf(const std::string& folder, const Tokenizer& tokenizer) {
  fs::create_directories(folder);
  ShardFolderWriter writer(folder, "part", tokenizer);
  writer.shard().Append(std::vector<int32_t>{1, 2, 3, static_cast<int32_t>(tokenizer.eos_id())});
  writer.shard().EndDocument();
  static_cast<void>(writer.Finish());
  DatasetConfig config;
  config.validation = {{folder, ""}};
  config.sequence_length = 2;
  config.vocab_size = 257;
  return Dataset(config);
}

// The manifest says which bytes it has: another file in its place, or none, is damage and no reason to look elsewhere.
TEST(RunTokenizer, IsTheCopyThatTheManifestNames) {
  const ScratchFolder folder;
  fs::create_directories(folder / "run");
  Spill(folder / "run/tokenizer.json", MakeByteTokenizer()->file_contents());
  SaveOptions options;
  options.folder = folder / "run/checkpoints";
  options.tokenizer_file = folder / "run/tokenizer.json";
  const Checkpoint checkpoint = OpenCheckpoint(testing::SaveSmallWith(options, 1));
  EXPECT_EQ(FindTokenizerFile(checkpoint), std::optional<std::string>(checkpoint.path + "/tokenizer.json"));
  Spill(checkpoint.path + "/tokenizer.json", MakeByteTokenizer()->file_contents() + " ");
  const auto find = [&] { static_cast<void>(FindTokenizerFile(checkpoint)); };
  EXPECT_EQ(testing::ErrorOf(find).code(), ExitCode::kBadData);
  fs::remove(checkpoint.path + "/tokenizer.json");
  EXPECT_EQ(testing::ErrorOf(find).code(), ExitCode::kBadData);
}

TEST(RunTokenizer, IsFoundHoweverTheCheckpointIsNamed) {
  const ScratchFolder folder;
  const std::string step = folder / "run/checkpoints/step_00000004";
  fs::create_directories(step);
  fs::create_directories(folder / "disk");
  EXPECT_FALSE(FindTokenizerFile({step, {}}).has_value());
  Spill(folder / "run/tokenizer.json", MakeByteTokenizer()->file_contents());
  const auto expect = [&](const std::string& path) {
    const std::optional<std::string> found = FindTokenizerFile({path, {}});
    ASSERT_TRUE(found.has_value()) << path;
    EXPECT_EQ(testing::Slurp(*found), MakeByteTokenizer()->file_contents()) << path;
  };
  expect(step);
  expect(step + "/");
  expect(step + "/.");
  expect(step + "/../step_00000004");
  const fs::path before = fs::current_path();
  fs::current_path(step);
  expect(".");
  fs::current_path(before);
  // Moved to another disk and linked back.
  fs::rename(step, folder / "disk/step_00000004");
  fs::create_directory_symlink(folder / "disk/step_00000004", step);
  expect(step);
  expect(step + "/.");
  // A link to the checkpoint from elsewhere.
  fs::create_directory_symlink(step, folder / "shortcut");
  fs::remove(step);
  fs::rename(folder / "disk/step_00000004", step);
  expect(folder / "shortcut");
  // A copy in the checkpoint comes first.
  Spill(step + "/tokenizer.json", "{}");
  EXPECT_EQ(testing::Slurp(*FindTokenizerFile({step, {}})), "{}");
}

// What the manifest says of its copy counts before what lies in the run's folder.
TEST(RunTokenizer, TheCopyOfTheManifestComesFirst) {
  const ScratchFolder folder;
  Checkpoint checkpoint{folder / "run/checkpoints/step_00000004", {}};
  fs::create_directories(checkpoint.path);
  Spill(folder / "run/tokenizer.json", MakeExternalTokenizer("other", 257, 256)->file_contents());
  Spill(checkpoint.path + "/tokenizer.json", MakeByteTokenizer()->file_contents());
  checkpoint.manifest.meta.tokenizer = TokenizerCopy{"tokenizer.json", MakeByteTokenizer()->Xxh3()};
  EXPECT_EQ(FindTokenizerFile(checkpoint), checkpoint.path + "/tokenizer.json");
  const Dataset own = DataOf(folder / "own", *MakeByteTokenizer());
  EXPECT_TRUE(CheckTokenizer(checkpoint, own));
  Spill(checkpoint.path + "/tokenizer.json", "{}");
  EXPECT_EQ(testing::ErrorOf([&] { static_cast<void>(FindTokenizerFile(checkpoint)); }).code(), ExitCode::kBadData);
}

TEST(RunTokenizer, DataOfAnotherOneIsRefused) {
  const ScratchFolder folder;
  const std::string step = folder / "run/checkpoints/step_00000004";
  fs::create_directories(step);
  const Dataset own = DataOf(folder / "own", *MakeByteTokenizer());
  const Dataset other = DataOf(folder / "other", *MakeExternalTokenizer("other", 257, 256));
  EXPECT_FALSE(CheckTokenizer({step, {}}, own));  // nothing to compare with
  Spill(folder / "run/tokenizer.json", MakeByteTokenizer()->file_contents());
  EXPECT_TRUE(CheckTokenizer({step, {}}, own));
  const Error error = testing::ErrorOf([&] { static_cast<void>(CheckTokenizer({step, {}}, other)); });
  EXPECT_EQ(error.code(), ExitCode::kBadData);
  EXPECT_NE(std::string(error.what()).find("mean something else"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace ksa
