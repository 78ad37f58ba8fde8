// Saved on one layout, read on another: every element of weights and moments comes back in bits.
#include <algorithm>
#include <filesystem>
#include <tuple>

#include "kernels/core/host_allocator.h"
#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa::testing {
namespace {

void SaveOn(int ranks, bool zero, DType dtype, const std::string& folder, int64_t step) {
  RunRanks(ranks, [&](Communicator& world) {
    HostAllocator allocator;
    ParameterStore store(SmallSpecs(), dtype, allocator, {ranks, world.rank(), zero});
    FillState(store);
    CheckpointMeta meta = MetaOf(step);
    meta.mesh.data = ranks;
    EXPECT_EQ(SaveCheckpoint(store, world, meta, {folder, 2, {}}), folder + "/" + CheckpointFolderName(step));
  });
}

// Ranks and ZeRO of the writer, ranks and ZeRO of the reader, type.
class RoundTrip : public ::testing::TestWithParam<std::tuple<int, bool, int, bool, DType>> {};

TEST_P(RoundTrip, EveryElementComesBack) {
  const auto [writers, writer_zero, readers, reader_zero, dtype] = GetParam();
  const ScratchFolder scratch;
  SaveOn(writers, writer_zero, dtype, scratch.path(), 12);
  RunRanks(readers, [&, readers = readers, reader_zero = reader_zero, dtype = dtype](Communicator& world) {
    const FoundCheckpoint found = FindNewestCheckpoint(scratch.path(), world);
    ASSERT_TRUE(found.found);
    EXPECT_TRUE(found.refused.empty());
    CheckpointMeta expected = MetaOf(12);
    expected.mesh.data = std::get<0>(GetParam());
    EXPECT_EQ(found.checkpoint.manifest.meta, expected);
    HostAllocator allocator;
    ParameterStore store(SmallSpecs(), dtype, allocator, {readers, world.rank(), reader_zero});
    LoadInto(store, found.checkpoint, LoadParts::kWeightsAndMoments, Stream{});
    ExpectState(store);
    EXPECT_TRUE(VerifyCheckpoint(found.checkpoint, world).empty());
  });
}

INSTANTIATE_TEST_SUITE_P(Layouts,
                         RoundTrip,
                         ::testing::Combine(::testing::Values(1, 2, 3),
                                            ::testing::Bool(),
                                            ::testing::Values(1, 2, 3),
                                            ::testing::Bool(),
                                            ::testing::Values(DType::kF32, DType::kF64, DType::kBF16)));

TEST(Checkpoint, WeightsAloneLeaveMomentsUntouched) {
  const ScratchFolder scratch;
  const std::string path = SaveSmall(scratch.path(), 3);
  HostAllocator allocator;
  ParameterStore store(SmallSpecs(), DType::kF32, allocator);
  LoadInto(store, OpenCheckpoint(path), LoadParts::kWeights, Stream{});
  ExpectState(store, false);
}

TEST(Checkpoint, HasOneWriterAnElementAndTheNamesOfTheContract) {
  const ScratchFolder scratch;
  SaveOn(3, true, DType::kF64, scratch.path(), 1000);
  EXPECT_EQ(Slurp(scratch / "latest"), "step_00001000\n");
  const Checkpoint checkpoint = OpenCheckpoint(scratch.path());
  EXPECT_EQ(checkpoint.path, scratch / "step_00001000");
  ASSERT_EQ(checkpoint.manifest.tensors.size(), 12U);
  const TensorEntry* tensor = checkpoint.manifest.Find("exp_avg_sq/layers.0.q_proj.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->dtype, DType::kF64);
  EXPECT_EQ(tensor->shape, (std::vector<int64_t>{13, 5}));
  int64_t covered = 0;  // parameters start at multiples of 64 elements: this one spans two ranks of three
  for (const TensorPiece& piece : tensor->pieces) {
    EXPECT_EQ(piece.flat.begin, covered);
    EXPECT_EQ(piece.shape, tensor->shape);
    EXPECT_TRUE(std::filesystem::exists(checkpoint.path + "/" + piece.file));
    covered = piece.flat.end;
  }
  EXPECT_EQ(covered, 65);
  EXPECT_TRUE(std::filesystem::exists(scratch / "step_00001000/rank_00000_of_00003.h5"));
  EXPECT_TRUE(std::filesystem::exists(scratch / "step_00001000/manifest.json"));
}

TEST(Checkpoint, IsFoundFromRunFolderCheckpointsFolderAndItself) {
  const ScratchFolder scratch;
  SaveSmall(scratch / "checkpoints", 5);
  const std::string newest = SaveSmall(scratch / "checkpoints", 9);
  EXPECT_EQ(OpenCheckpoint(scratch.path()).path, newest);
  EXPECT_EQ(OpenCheckpoint(scratch / "checkpoints").path, newest);
  EXPECT_EQ(OpenCheckpoint(scratch / "checkpoints/").path, newest);
  EXPECT_EQ(OpenCheckpoint(scratch / "checkpoints/step_00000005/").manifest.meta.step, 5);
  EXPECT_EQ(ListCheckpoints(scratch.path()), (std::vector<std::string>{scratch / "checkpoints/step_00000005", newest}));
  // A copy may have any name.
  std::filesystem::rename(newest, scratch / "best");
  EXPECT_EQ(OpenCheckpoint(scratch / "best").manifest.meta.step, 9);
}

TEST(Checkpoint, MissingPathsAreMissingInput) {
  const ScratchFolder scratch;
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(OpenCheckpoint(scratch / "nothing")); }).code(), ExitCode::kMissingInput);
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(OpenCheckpoint(scratch.path())); }).code(), ExitCode::kMissingInput);
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(ListCheckpoints(scratch / "nothing")); }).code(), ExitCode::kMissingInput);
  const auto self = MakeSelfCommunicator();
  EXPECT_FALSE(FindNewestCheckpoint(scratch / "nothing", *self).found);
}

TEST(Checkpoint, OfAnotherModelListsEveryDifference) {
  const ScratchFolder scratch;
  const Checkpoint checkpoint = OpenCheckpoint(SaveSmall(scratch.path(), 3));
  std::vector<ParameterSpec> specs = SmallSpecs();
  specs[0].shape = {11, 8};
  specs[2].name = "layers.0.other.weight";
  HostAllocator allocator;
  ParameterStore store(specs, DType::kF32, allocator);
  const Error error = ErrorOf([&] { LoadInto(store, checkpoint, LoadParts::kWeights, Stream{}); });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
  const std::string message = error.what();
  EXPECT_NE(message.find("weights/embed.weight: [11, 7] in the checkpoint, [11, 8] in the model"), std::string::npos);
  EXPECT_NE(message.find("weights/layers.0.other.weight: not in the checkpoint"), std::string::npos);
  EXPECT_NE(message.find("weights/layers.0.norm.weight: not in the model"), std::string::npos);
  EXPECT_NE(message.find("3 difference(s)"), std::string::npos) << message;

  ParameterStore wide(SmallSpecs(), DType::kF64, allocator);
  const Error dtype = ErrorOf([&] { LoadInto(wide, checkpoint, LoadParts::kWeightsAndMoments, Stream{}); });
  EXPECT_EQ(dtype.code(), ExitCode::kConfig);
  EXPECT_NE(std::string(dtype.what()).find("fp32 in the checkpoint, fp64 in the model"), std::string::npos);
}

TEST(Checkpoint, ReadTensorGivesTheWholeTensor) {
  const ScratchFolder scratch;
  SaveOn(2, false, DType::kF32, scratch.path(), 1);
  const Checkpoint checkpoint = OpenCheckpoint(scratch.path());
  const TensorEntry* entry = checkpoint.manifest.Find("exp_avg/layers.0.q_proj.weight");
  ASSERT_NE(entry, nullptr);
  HostAllocator allocator;
  const Tensor out = ReadTensor(checkpoint, *entry, allocator);
  ASSERT_EQ(out.shape(), Shape({65}));
  for (int64_t e = 0; e < 65; ++e) {
    EXPECT_EQ(At(out, e), ValueOf(Kind::kExpAvg, 1, e));
  }
}

}  // namespace
}  // namespace ksa::testing
