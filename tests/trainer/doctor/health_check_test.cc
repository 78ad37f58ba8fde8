// What is judged of facts that a test machine does not have.
#include "trainer/doctor/health_check.h"

#include <gtest/gtest.h>

namespace ksa {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

TEST(HealthCheck, Limits) {
  EXPECT_EQ(JudgeLimits({}).health, Health::kGood);
  EXPECT_EQ(JudgeLimits({}).cure, "");
  EXPECT_EQ(JudgeLimits({.files = 63}).health, Health::kFault);
  EXPECT_EQ(JudgeLimits({.files = 64}).health, Health::kWarning);
  EXPECT_EQ(JudgeLimits({.files = 1024}).health, Health::kGood);
  EXPECT_EQ(JudgeLimits({.address_space = kGiB - 1}).health, Health::kFault);
  EXPECT_EQ(JudgeLimits({.address_space = 100 * kGiB}).health, Health::kWarning);
  EXPECT_EQ(JudgeLimits({.file_size = 0}).health, Health::kFault);
  // Locked memory matters where there is InfiniBand.
  EXPECT_EQ(JudgeLimits({.locked_memory = 64 << 10}).health, Health::kGood);
  const HealthCheck infiniband = JudgeLimits({.locked_memory = 64 << 10, .has_infiniband = true});
  EXPECT_EQ(infiniband.health, Health::kWarning);
  EXPECT_NE(infiniband.cure.find("ulimit -l unlimited"), std::string::npos);
  // The worst of several counts, and every cure is given.
  const HealthCheck several = JudgeLimits({.files = 100, .stack = 64 << 10});
  EXPECT_EQ(several.health, Health::kFault);
  EXPECT_NE(several.cure.find("ulimit -n"), std::string::npos);
  EXPECT_NE(several.cure.find("ulimit -s"), std::string::npos);
}

TEST(HealthCheck, CoresThatAreBoundOrRationed) {
  EXPECT_EQ(JudgeCores({.host = 8, .mine = 8}).health, Health::kGood);
  EXPECT_EQ(JudgeCores({.host = 8, .mine = 8, .ranks = 8, .by_mpirun = true}).health, Health::kGood);
  // mpirun's default: two ranks, one core each, of eight.
  const HealthCheck bound = JudgeCores({.host = 8, .mine = 1, .ranks = 2, .by_mpirun = true});
  EXPECT_EQ(bound.health, Health::kWarning);
  EXPECT_NE(bound.cure.find("--bind-to none"), std::string::npos);
  // Cores that are divided well are no finding.
  EXPECT_EQ(JudgeCores({.host = 8, .mine = 4, .ranks = 2, .by_mpirun = true}).health, Health::kGood);
  EXPECT_EQ(JudgeCores({.host = 8, .mine = 2}).health, Health::kWarning);
  EXPECT_EQ(JudgeCores({.host = 8, .mine = 8, .quota = 1.5, .ranks = 2}).health, Health::kWarning);
  EXPECT_EQ(JudgeCores({.host = 8, .mine = 8, .quota = 2.0, .ranks = 2}).health, Health::kGood);
}

TEST(HealthCheck, SharedMemory) {
  const SharedMemoryFacts good = {.there = true, .writable = true, .total = kGiB, .free = 64 * kMiB, .gpus = 1};
  EXPECT_EQ(JudgeSharedMemory(good).health, Health::kGood);
  SharedMemoryFacts facts = good;
  facts.gpus = 2;
  EXPECT_EQ(JudgeSharedMemory(facts).health, Health::kWarning);
  facts = good;
  facts.free = 63 * kMiB;
  EXPECT_EQ(JudgeSharedMemory(facts).health, Health::kWarning);
  facts.free = 15 * kMiB;
  EXPECT_EQ(JudgeSharedMemory(facts).health, Health::kFault);
  facts = good;
  facts.writable = false;
  EXPECT_EQ(JudgeSharedMemory(facts).health, Health::kFault);
  EXPECT_EQ(JudgeSharedMemory({}).health, Health::kFault);
}

TEST(HealthCheck, FoldersThatCannotBeWrittenTo) {
  for (const HealthCheck& check :
       {CheckDisk("/proc/no"), CheckFileSystem("/proc/no"), CheckFlock("/proc/no"), CheckHdf5("/proc/no")}) {
    EXPECT_EQ(check.health, Health::kFault) << check.name;
    EXPECT_NE(check.detail.find("/proc/no"), std::string::npos) << check.detail;
    EXPECT_FALSE(check.cure.empty());
  }
}

}  // namespace
}  // namespace ksa
