// Damaged checkpoints: every change of a byte is noticed, nothing crashes, and the older checkpoint is used.
#include <filesystem>
#include <random>

#include "kernels/core/host_allocator.h"
#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/checkpoint.h"

#ifdef __SANITIZE_ADDRESS__
// HDF5 1.10 does not free an object header in which it found damage.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libhdf5";
}
#endif

namespace ksa::testing {
namespace {

class Damage : public ::testing::Test {
 protected:
  void SetUp() override {
    older_ = SaveSmall(scratch_.path(), 1);
    newer_ = SaveSmall(scratch_.path(), 2);
  }

  // The newest checkpoint must be refused for `why`, and the older one taken.
  void ExpectRefused(const std::string& why) {
    const auto self = MakeSelfCommunicator();
    const FoundCheckpoint found = FindNewestCheckpoint(scratch_.path(), *self);
    ASSERT_TRUE(found.found) << why;
    ASSERT_EQ(found.checkpoint.path, older_) << why;
    ASSERT_EQ(found.refused.size(), 1U) << why;
    ASSERT_EQ(found.refused[0].path, newer_) << why;
    ASSERT_NE(found.refused[0].reason.find(newer_), std::string::npos) << found.refused[0].reason;
    ASSERT_EQ(found.refused[0].code, ExitCode::kBadData) << found.refused[0].reason;
  }

  // Flips one bit of each of 200 bytes, and cuts at 20 lengths.
  void DamageFile(const std::string& path) {
    const std::string good = Slurp(path);
    ASSERT_FALSE(good.empty());
    std::mt19937_64 random(7);
    for (int i = 0; i < 200; ++i) {
      const size_t offset = random() % good.size();
      std::string bad = good;
      bad[offset] = static_cast<char>(bad[offset] ^ (1 << (random() % 8)));
      Spill(path, bad);
      ExpectRefused("flip at " + std::to_string(offset) + " of " + std::to_string(good.size()));
      if (HasFatalFailure()) {
        return;
      }
    }
    for (size_t i = 0; i < 20; ++i) {
      Spill(path, good.substr(0, good.size() * i / 20));
      ExpectRefused("cut at " + std::to_string(good.size() * i / 20));
    }
    Spill(path, good + std::string(1, 'x'));
    ExpectRefused("a byte more");
    Spill(path, good);
    const auto self = MakeSelfCommunicator();
    EXPECT_EQ(FindNewestCheckpoint(scratch_.path(), *self).checkpoint.path, newer_);
  }

  ScratchFolder scratch_;
  std::string older_;
  std::string newer_;
};

TEST_F(Damage, OfTheTensorFileIsNoticed) {
  DamageFile(newer_ + "/rank_00000_of_00001.h5");
}

TEST_F(Damage, OfTheManifestIsNoticed) {
  DamageFile(newer_ + "/manifest.json");
}

TEST_F(Damage, MissingFilesAreNoticed) {
  std::filesystem::remove(newer_ + "/rank_00000_of_00001.h5");
  ExpectRefused("no tensor file");
  const Checkpoint checkpoint = OpenCheckpoint(newer_);
  const std::vector<Fault> faults = VerifyCheckpoint(checkpoint);
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_NE(faults[0].text.find("rank_00000_of_00001.h5"), std::string::npos);
  HostAllocator allocator;
  ParameterStore store(SmallSpecs(), DType::kF32, allocator);
  EXPECT_EQ(ErrorOf([&] { LoadInto(store, checkpoint, LoadParts::kWeights, Stream{}); }).code(), ExitCode::kBadData);
  std::filesystem::remove(newer_ + "/manifest.json");
  ExpectRefused("no manifest");
}

TEST_F(Damage, OfOneTensorIsNamedByVerifyAndStopsTheLoad) {
  const std::string path = newer_ + "/rank_00000_of_00001.h5";
  std::string bytes = Slurp(path);
  const auto wanted = static_cast<float>(ValueOf(Kind::kExpAvg, 1, 30));
  const size_t place = bytes.find(std::string(reinterpret_cast<const char*>(&wanted), sizeof wanted));
  ASSERT_NE(place, std::string::npos);
  bytes[place] = static_cast<char>(bytes[place] ^ 1);
  Spill(path, bytes);
  const Checkpoint checkpoint = OpenCheckpoint(newer_);
  const std::vector<Fault> faults = VerifyCheckpoint(checkpoint);
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_NE(faults[0].text.find("exp_avg/layers.0.q_proj.weight"), std::string::npos) << faults[0].text;
  HostAllocator allocator;
  ParameterStore store(SmallSpecs(), DType::kF32, allocator);
  const Error error = ErrorOf([&] { LoadInto(store, checkpoint, LoadParts::kWeightsAndMoments, Stream{}); });
  EXPECT_EQ(error.code(), ExitCode::kBadData);
  EXPECT_NE(std::string(error.what()).find("exp_avg/layers.0.q_proj.weight"), std::string::npos);
  LoadInto(store, checkpoint, LoadParts::kWeights, Stream{});  // the damaged tensor is not read
}

TEST_F(Damage, EveryRankGetsTheSameAnswer) {
  std::filesystem::resize_file(newer_ + "/rank_00000_of_00001.h5", 100);
  RunRanks(3, [&](Communicator& world) {
    const FoundCheckpoint found = FindNewestCheckpoint(scratch_.path(), world);
    ASSERT_TRUE(found.found);
    EXPECT_EQ(found.checkpoint.path, older_);
    EXPECT_EQ(found.refused.size(), 1U);
  });
}

TEST_F(Damage, WhenNothingIsGoodEveryReasonIsGiven) {
  std::filesystem::resize_file(newer_ + "/rank_00000_of_00001.h5", 100);
  std::filesystem::remove(older_ + "/manifest.json");
  const Error error = ErrorOf([&] { static_cast<void>(OpenCheckpoint(scratch_.path())); });
  EXPECT_EQ(error.code(), ExitCode::kBadData);
  EXPECT_NE(std::string(error.what()).find(newer_), std::string::npos);
  EXPECT_NE(std::string(error.what()).find(older_), std::string::npos);
}

TEST_F(Damage, AFolderThatBorrowsAnotherStepsNameIsRefused) {
  std::filesystem::rename(newer_, scratch_ / "step_00000099");
  newer_ = scratch_ / "step_00000099";
  ExpectRefused("manifest of step 2 in step_00000099");
}

TEST_F(Damage, LinksAndForeignFilesAreRefused) {
  const std::string file = newer_ + "/rank_00000_of_00001.h5";
  std::filesystem::rename(file, scratch_ / "elsewhere.h5");
  std::filesystem::create_symlink(scratch_ / "elsewhere.h5", file);
  ExpectRefused("a link in place of the file");
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  ExpectRefused("a folder in place of the file");
}

}  // namespace
}  // namespace ksa::testing
