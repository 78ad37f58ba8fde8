// The first lines of log.txt.
#include "trainer/observe/log_header.h"

#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace ksa {
namespace {

TEST(LogHeader, SaysWhatRanWhenAndWhere) {
  setenv("TZ", "UTC-2", 1);
  tzset();
  const Invocation invocation = {
      .version = "1.2.3 (abc)",
      .arguments = {"bin/ksa", "train", "my run.yaml"},
      .begin = std::chrono::system_clock::from_time_t(86400 * 365),
  };
  const std::string header =
      LogHeader(invocation, {.host = "node7", .device = "NVIDIA H200", .threads = 4, .ranks = 8, .attempt = 3});
  unsetenv("TZ");
  tzset();
  EXPECT_EQ(header,
            fmt::format("# 1971-01-01 02:00:00 +0200 ksa 1.2.3 (abc), start 3 of this run\n"
                        "# command: bin/ksa train 'my run.yaml'\n"
                        "# in: {}\n"
                        "# host: node7, process {}\n"
                        "# devices: 8 ranks on NVIDIA H200, 4 threads a rank\n",
                        std::filesystem::current_path().string(),
                        getpid()));
}

}  // namespace
}  // namespace ksa
