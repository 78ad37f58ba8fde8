// What ranks settle before they start: the same configuration, a GPU each, and the table that shows where they are.
#include "trainer/loop/ranks.h"

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "parallel/comm/threads.h"
#include "trainer/config/load.h"

namespace ksa {
namespace {

// What CheckSameOnAllRanks says to every rank; `facts` by rank.
std::vector<std::string> Reports(const std::vector<Facts>& facts) {
  std::vector<std::string> reports(facts.size());
  RunRanks(static_cast<int>(facts.size()), [&](Communicator& world) {
    const auto rank = static_cast<size_t>(world.rank());
    try {
      CheckSameOnAllRanks(world, "node" + std::to_string(rank), facts[rank]);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      reports[rank] = error.what();
    }
  });
  return reports;
}

TEST(CheckSameOnAllRanks, SaysNothingWhenAllIsTheSame) {
  const Facts facts = {{"optimizer.lr", "0.001"}, {"the program", "build 1"}};
  EXPECT_EQ(Reports({facts, facts, facts}), std::vector<std::string>(3));
}

TEST(CheckSameOnAllRanks, NamesHostRankAndValuesOnAllRanks) {
  const Facts facts = {{"optimizer.lr", "0.001"}, {"run.seed", "1"}};
  const std::vector<std::string> reports =
      Reports({facts, {{"optimizer.lr", "0.002"}, {"run.seed", "1"}}, {{"run.seed", "2"}, {"run.name", "x"}}});
  EXPECT_EQ(reports[0],
            "every rank needs the same configuration, program and shards; make these like rank 0's:\n"
            "rank 1 on host node1: optimizer.lr is 0.002, 0.001 on rank 0\n"
            "rank 2 on host node2: run.seed is 2, 1 on rank 0; run.name is x, not there on rank 0; optimizer.lr is not "
            "there, 0.001 on rank 0");
  EXPECT_EQ(reports[1], reports[0]);
  EXPECT_EQ(reports[2], reports[0]);
}

TEST(CheckSameOnAllRanks, NamesAFewOfMany) {
  std::vector<Facts> facts(12);
  for (int rank = 0; rank < 12; ++rank) {
    for (int key = 0; key < 6; ++key) {
      facts[static_cast<size_t>(rank)].emplace_back(std::to_string(key), std::to_string(rank));
    }
  }
  const std::string report = Reports(facts)[5];
  EXPECT_NE(report.find("3 is 8, 0 on rank 0; and 2 more\nand 3 ranks more"), std::string::npos) << report;
}

TEST(StartFacts, HoldEveryKeyAndTheProgram) {
  const Facts facts = StartFacts(Config{});
  EXPECT_EQ(facts.size(), FlattenConfig(Config{}).size() + 1);
  EXPECT_EQ(facts.back().second.size(), std::string("build ").size() + 16) << facts.back().second;
}

TEST(GatherPlaces, Travel) {
  RunRanks(3, [](Communicator& world) {
    const RankPlace own = {
        .host = "node" + std::to_string(world.rank()), .local_rank = world.rank(), .local_size = 3, .gpus = 8};
    const std::vector<RankPlace> places = GatherPlaces(world, own);
    ASSERT_EQ(places.size(), 3U);
    EXPECT_EQ(places[2].host, "node2");
    EXPECT_EQ(places[2].local_rank, 2);
    EXPECT_EQ(places[2].local_size, 3);
    EXPECT_EQ(places[2].gpus, 8);
  });
}

TEST(ResolveDeviceOfRanks, AutoNeedsAGpuForEveryRank) {
  Config config;
  ResolveDeviceOfRanks(config, {{"a", 0, 2, 2}, {"a", 1, 2, 2}, {"b", 0, 1, 1}});
  EXPECT_EQ(config.run.device, BuildHasCuda() ? DeviceChoice::kCuda : DeviceChoice::kCpu);
  config = {};
  ResolveDeviceOfRanks(config, {{"a", 0, 2, 0}, {"a", 1, 2, 0}, {"b", 0, 1, 0}});
  EXPECT_EQ(config.run.device, DeviceChoice::kCpu);
}

// Rather than all on CPUs because one host has no GPU.
TEST(ResolveDeviceOfRanks, AutoDoesNotLeaveGpusAside) {
  for (const int gpus : {0, 1}) {
    Config config;
    try {
      ResolveDeviceOfRanks(config, {{"a", 0, 2, 2}, {"a", 1, 2, 2}, {"b", 0, 2, gpus}, {"b", 1, 2, gpus}});
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      const std::string start =
          fmt::format("run.device: auto needs a GPU for every rank, but host b has 2 ranks and {} GPU(s)", gpus);
      EXPECT_EQ(std::string(error.what()).find(start), 0U) << error.what();
    }
    config.run.device = DeviceChoice::kCpu;
    ResolveDeviceOfRanks(config, {{"a", 0, 1, 1}, {"b", 0, 1, gpus}});
    EXPECT_EQ(config.run.device, DeviceChoice::kCpu);
  }
}

TEST(ResolveDeviceOfRanks, MoreRanksThanGpus) {
  Config config;
  config.run.device = DeviceChoice::kCuda;
  try {
    ResolveDeviceOfRanks(config, {{"a", 0, 1, 1}, {"b", 0, 2, 1}, {"b", 1, 2, 1}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_EQ(
        std::string(error.what()).find("run.device: cuda needs a GPU for every rank, but host b has 2 ranks and 1 "),
        0U)
        << error.what();
  }
}

TEST(RankTable, ALineARank) {
  const std::vector<std::string> lines =
      RankTable({"a", "a", "b", "b"}, {"GPU 0 X", "GPU 1 X", "GPU 0 X", "cpu"}, {.data = 2, .context = 1, .tensor = 2});
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0], "rank 0 on a: GPU 0 X; data 0, context 0, tensor 0");
  EXPECT_EQ(lines[3], "rank 3 on b: cpu; data 1, context 0, tensor 1");
}

TEST(RankTable, ALineAHostWhenThereAreMany) {
  std::vector<std::string> hosts;
  for (int rank = 0; rank < 32; ++rank) {
    hosts.push_back(rank < 16 ? "a" : "b");
  }
  const std::vector<std::string> lines =
      RankTable(hosts, std::vector<std::string>(32, "cpu"), {.data = 4, .context = 4, .tensor = 2});
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0], "ranks 0-15 on a: cpu; data 0-1, context 0-3, tensor 0-1");
  EXPECT_EQ(lines[1], "ranks 16-31 on b: cpu; data 2-3, context 0-3, tensor 0-1");
}

}  // namespace
}  // namespace ksa
