// Memory that is free on a host, and what control groups leave of it.
#include "trainer/step/host_memory.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/trainer/step/system_files.h"

namespace ksa {
namespace {

class FreeHostBytesTest : public ::testing::Test {
 protected:
  FreeHostBytesTest() {
    Write("/proc/meminfo",
          "MemTotal:       16000000 kB\nMemFree:  100 kB\nMemAvailable:    8000000 kB\nBuffers: 1 kB\n");
  }

  void Write(const std::string& path, const std::string& text) const { files_.Write(path, text); }

  [[nodiscard]] int64_t Free() const { return FreeHostBytes(files_.root()); }

 private:
  testing::SystemFiles files_;
};

TEST_F(FreeHostBytesTest, AsTheSystemSays) {
  EXPECT_EQ(Free(), int64_t{8000000} * 1024);
}

TEST_F(FreeHostBytesTest, AGroupOfVersion2LeavesLess) {
  Write("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  Write("/proc/self/cgroup", "0::/job.slice/step_0\n");
  const std::string group = "/sys/fs/cgroup/job.slice/step_0";
  Write(group + "/memory.max", "max\n");
  EXPECT_EQ(Free(), int64_t{8000000} * 1024);
  Write(group + "/memory.max", "4000000000\n");
  Write(group + "/memory.current", "3000000000\n");
  Write(group + "/memory.stat", "anon 1000000000\nfile 2000000000\nkernel 5\n");
  EXPECT_EQ(Free(), 3000000000) << "pages of files can go";
  Write("/sys/fs/cgroup/job.slice/memory.max", "2500000000\n");
  Write("/sys/fs/cgroup/job.slice/memory.current", "2600000000\n");
  EXPECT_EQ(Free(), 0) << "nothing is left in the group above it";
}

TEST_F(FreeHostBytesTest, AGroupOfVersion1LeavesLess) {
  Write("/proc/self/mountinfo", "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  Write("/proc/self/cgroup", "5:memory:/user\n4:cpu,cpuacct:/user/job\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/sys/fs/cgroup/memory/user/memory.limit_in_bytes", "1000000000\n");
  Write("/sys/fs/cgroup/memory/user/memory.usage_in_bytes", "400000000\n");
  Write("/sys/fs/cgroup/memory/user/memory.stat", "cache 7\ntotal_cache 100000000\n");
  EXPECT_EQ(Free(), 700000000);
}

TEST(HostMemory, IsThere) {
  EXPECT_GT(FreeHostBytes(), 0);
  EXPECT_LE(FreeHostBytes(), HostMemoryBytes());
  EXPECT_GT(ResidentBytes(), AnonymousBytes());
  EXPECT_GT(AnonymousBytes(), 0);
}

}  // namespace
}  // namespace ksa
