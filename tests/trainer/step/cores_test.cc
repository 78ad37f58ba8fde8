// How many threads a rank takes by default: affinity, ranks of the host, quotas of control groups.
#include "trainer/step/cores.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/trainer/step/system_files.h"

namespace ksa {
namespace {

class CpuQuotaTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) const { files_.Write(path, text); }

  [[nodiscard]] std::optional<double> Quota() const { return CpuQuota(files_.root()); }

 private:
  testing::SystemFiles files_;
};

constexpr const char* kUnified =
    "22 27 0:20 / /proc rw,relatime shared:5 - proc proc rw\n"
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

TEST_F(CpuQuotaTest, NothingIsKnown) {
  EXPECT_EQ(Quota(), std::nullopt);
}

TEST_F(CpuQuotaTest, TheOwnGroupOfVersion2) {
  Write("/proc/self/mountinfo", kUnified);
  Write("/proc/self/cgroup", "0::/job.slice/step_0\n");
  Write("/sys/fs/cgroup/job.slice/step_0/cpu.max", "50000 100000\n");
  EXPECT_EQ(Quota(), 0.5);
  Write("/sys/fs/cgroup/job.slice/step_0/cpu.max", "max 100000\n");
  EXPECT_EQ(Quota(), std::nullopt);
}

TEST_F(CpuQuotaTest, TheLeastOfThoseAbove) {
  Write("/proc/self/mountinfo", kUnified);
  Write("/proc/self/cgroup", "0::/job.slice/step_0\n");
  Write("/sys/fs/cgroup/job.slice/step_0/cpu.max", "800000 100000\n");
  Write("/sys/fs/cgroup/job.slice/cpu.max", "300000 100000\n");
  EXPECT_EQ(Quota(), 3.0);
}

// A container with a name space of its own sees its group as the root.
TEST_F(CpuQuotaTest, AContainersGroupIsTheMountItself) {
  Write("/proc/self/mountinfo", kUnified);
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/cpu.max", "250000 100000\n");
  EXPECT_EQ(Quota(), 2.5);
  Write("/proc/self/cgroup", "0::/../../elsewhere\n");
  EXPECT_EQ(Quota(), 2.5);
}

TEST_F(CpuQuotaTest, Version1) {
  Write("/proc/self/mountinfo",
        "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n");
  Write("/proc/self/cgroup", "5:memory:/user\n4:cpu,cpuacct:/user/job\n0::/user\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/user/job/cpu.cfs_quota_us", "150000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/user/job/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Quota(), 1.5);
}

// Docker without a name space: the group has the host's name, and the mount shows that group alone.
TEST_F(CpuQuotaTest, Version1OfAContainer) {
  Write("/proc/self/mountinfo", "33 25 0:29 /docker/4af /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
  Write("/proc/self/cgroup", "4:cpu,cpuacct:/docker/4af\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Quota(), 4.0);
}

TEST(Cores, ShareOfARank) {
  EXPECT_EQ(ShareOf({.host = 64, .mine = 64}, 1), 64);
  EXPECT_EQ(ShareOf({.host = 64, .mine = 64}, 4), 16);
  EXPECT_EQ(ShareOf({.host = 64, .mine = 8}, 4), 8) << "bound to cores of its own";
  EXPECT_EQ(ShareOf({.host = 2, .mine = 2}, 8), 1);
  EXPECT_EQ(ShareOf({.host = 5000, .mine = 5000}, 1), 1024);
}

TEST(Cores, NotMoreThanTheQuota) {
  EXPECT_EQ(ShareOf({.host = 2, .mine = 2, .quota = 0.5}, 1), 1);
  EXPECT_EQ(ShareOf({.host = 64, .mine = 64, .quota = 7.9}, 1), 7);
  EXPECT_EQ(ShareOf({.host = 64, .mine = 64, .quota = 8.0}, 2), 4);
  EXPECT_EQ(ShareOf({.host = 64, .mine = 4, .quota = 32.0}, 2), 4);
  EXPECT_EQ(ShareOf({.host = 64, .mine = 4, .quota = 4.0}, 2), 2) << "both ranks share one quota";
}

TEST(Cores, OfThisHost) {
  EXPECT_GE(AvailableCores(1), 1);
  EXPECT_GE(AvailableCores(1), AvailableCores(2));
}

}  // namespace
}  // namespace ksa
