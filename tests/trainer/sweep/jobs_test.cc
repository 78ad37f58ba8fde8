// What jobs of a sweep get, and how many fit.
#include "trainer/sweep/jobs.h"

#include <functional>

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "tests/trainer/config/support.h"
#include "trainer/loop/memory_plan.h"

namespace ksa {
namespace {

std::string MessageOf(ExitCode code, const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(ParseGpuList, NumbersOnce) {
  EXPECT_EQ(ParseGpuList("0"), std::vector<int>{0});
  EXPECT_EQ(ParseGpuList("3,0,12"), (std::vector<int>{3, 0, 12}));
  for (const char* wrong : {"", ",", "0,", "a", "1.5", "-1", "0 1", "0,1,0", "99999999999"}) {
    EXPECT_FALSE(MessageOf(ExitCode::kUsage, [&] { static_cast<void>(ParseGpuList(wrong)); }).empty()) << wrong;
  }
}

// Numbers are those that this process sees, which a scheduler may have chosen.
TEST(NamesOfGpus, AreThoseThatAreVisibleHere) {
  EXPECT_EQ(NamesOfGpus({1, 0}, nullptr, 4), (std::vector<std::string>{"1", "0"}));
  EXPECT_EQ(NamesOfGpus({1, 0}, "6,GPU-ab", 2), (std::vector<std::string>{"GPU-ab", "6"}));
  EXPECT_NE(MessageOf(ExitCode::kUsage,
                      [] {
                        static_cast<void>(NamesOfGpus({0, 2}, nullptr, 2));
                      })
                .find("GPU 2"),
            std::string::npos);
  EXPECT_NE(MessageOf(ExitCode::kUsage, [] { static_cast<void>(NamesOfGpus({0}, "", 0)); }).find("0 GPUs"),
            std::string::npos);
}

const std::vector<CellMemory> kCpuCells = {{"a", false, false, 10}, {"b", false, false, 30}, {"c", false, false, 20}};
const std::vector<CellMemory> kGpuCells = {{"a", true, false, 10}, {"b", true, false, 30}, {"c", true, false, 20}};

// Any of the cells may come to run beside any other: the largest count.
TEST(JobsThatFit, OnTheHost) {
  EXPECT_EQ(JobsThatFit(kCpuCells, {60, {}}, 3), 3);
  EXPECT_EQ(JobsThatFit(kCpuCells, {59, {}}, 3), 2);
  EXPECT_EQ(JobsThatFit(kCpuCells, {50, {}}, 2), 2);
  EXPECT_EQ(JobsThatFit(kCpuCells, {49, {}}, 2), 1);
  EXPECT_EQ(JobsThatFit(kCpuCells, {29, {}}, 2), 0);
  EXPECT_EQ(JobsThatFit(kCpuCells, {60, {}}, 9), 9) << "there are no more cells than three";
  EXPECT_EQ(JobsThatFit({}, {0, {}}, 4), 4);
}

TEST(JobsThatFit, OnGpusInTurn) {
  EXPECT_EQ(JobsThatFit(kGpuCells, {0, {30}}, 3), 1);
  EXPECT_EQ(JobsThatFit(kGpuCells, {0, {30, 30}}, 3), 2);
  EXPECT_EQ(JobsThatFit(kGpuCells, {0, {50, 50}}, 4), 4);
  EXPECT_EQ(JobsThatFit(kGpuCells, {0, {50, 49}}, 4), 2) << "the GPU with less counts";
  EXPECT_EQ(JobsThatFit(kGpuCells, {0, {}}, 2), 0) << "no GPU";
}

TEST(CheckJobsFit, NamesTheNumberThatFits) {
  EXPECT_NO_THROW(CheckJobsFit(kCpuCells, {60, {}}, 3));
  const std::string message = MessageOf(ExitCode::kOutOfMemory, [] { CheckJobsFit(kCpuCells, {50, {}}, 3); });
  EXPECT_NE(message.find("--jobs 3: so many cells do not fit side by side, 2 do; the largest (b) needs 30 B, 50 B is"),
            std::string::npos)
      << message;
  EXPECT_NE(message.find("Use --jobs 2,"), std::string::npos) << message;
}

// What may take as much as it finds is planned as the whole batch, and said to be.
TEST(CheckJobsFit, SaysWhatAutomaticMicroBatchesAre) {
  EXPECT_NE(MessageOf(ExitCode::kOutOfMemory,
                      [&] {
                        CheckJobsFit({{"a", false, true, 30}, {"b", false, false, 30}}, {50, {}}, 2);
                      })
                .find("training.micro_batch_size (auto may take the whole batch, and is planned so)"),
            std::string::npos);
}

TEST(PlanCells, OfTheCellsThatAreLeft) {
  const testing::TemporaryFolder folder;
  static_cast<void>(folder.Write("base.yaml", testing::kBase));
  const Sweep sweep = LoadSweep(folder.Write("s.yaml",
                                             "name: s\nbase: base.yaml\naxes: {run.seed: [1, 2], "
                                             "training.micro_batch_size: [1, auto]}\n"),
                                {"run.device=cpu"});
  const std::vector<CellMemory> memory = PlanCells(sweep, {0, 1, 2}, false);
  ASSERT_EQ(memory.size(), 3U);
  EXPECT_EQ(memory[2].label, sweep.cells[2].label);
  EXPECT_FALSE(memory[0].on_gpu);
  EXPECT_FALSE(memory[0].automatic);
  EXPECT_TRUE(memory[1].automatic);
  EXPECT_GT(memory[0].bytes, 0);
  EXPECT_GT(memory[1].bytes, memory[0].bytes) << "auto: the whole batch of several";
  EXPECT_EQ(memory[0].bytes, memory[2].bytes) << "another seed";
}

}  // namespace
}  // namespace ksa
