// The contract's log line to the letter, and the numbers in it.
#include "trainer/observe/log_line.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace ksa {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

StepReport ExampleReport() {
  StepReport report;
  report.step = 120;
  report.max_steps = 5000;
  report.tokens = 983040;
  report.loss = 5.43214;
  report.grad_norm = 0.8731;
  report.lr = 3e-4;
  report.step_ms = 812.3;
  report.tokens_per_second = 10085.0;
  report.mfu = 0.512;
  report.memory = static_cast<int64_t>(61.2 * kGib);
  report.memory_total = static_cast<int64_t>(79.2 * kGib);
  report.data_wait_ms = 0.1;
  report.comm_wait_ms = 3.2;
  report.eta_seconds = (5000 - 120) * 0.8123;
  return report;
}

TEST(LogLine, IsTheContractsLine) {
  EXPECT_EQ(FormatLogLine(ExampleReport()),
            "step    120/5000 | tokens 983.0K | loss 5.4321 | gnorm 0.873 | lr 3.00e-04 | 812.3 ms | 10.1K tok/s | "
            "mfu 51.2% | mem 61.2/79.2 GiB | wait data 0.1 comm 3.2 ms | eta 1h06m");
}

TEST(LogLine, PrintsNotAvailableOnAnUnknownDevice) {
  StepReport report = ExampleReport();
  report.mfu.reset();
  report.step = 1234567;
  report.eta_seconds = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(FormatLogLine(report),
            "step 1234567/5000 | tokens 983.0K | loss 5.4321 | gnorm 0.873 | lr 3.00e-04 | 812.3 ms | 10.1K tok/s | "
            "mfu n/a | mem 61.2/79.2 GiB | wait data 0.1 comm 3.2 ms | eta ?");
}

TEST(LogLine, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(512.4), "512");
  EXPECT_EQ(FormatCount(999.4), "999");
  EXPECT_EQ(FormatCount(999.6), "1.0K");
  EXPECT_EQ(FormatCount(1000), "1.0K");
  EXPECT_EQ(FormatCount(999949), "999.9K");
  EXPECT_EQ(FormatCount(999960), "1.0M");
  EXPECT_EQ(FormatCount(1.25e6), "1.2M");
  EXPECT_EQ(FormatCount(3.4e9), "3.4B");
  EXPECT_EQ(FormatCount(5.6e12), "5.6T");
  EXPECT_EQ(FormatCount(2e16), "20000.0T");
  EXPECT_EQ(FormatCount(std::nan("")), "n/a");
}

TEST(LogLine, Durations) {
  EXPECT_EQ(FormatDuration(0), "0s");
  EXPECT_EQ(FormatDuration(59.4), "59s");
  EXPECT_EQ(FormatDuration(59.6), "1m00s");
  EXPECT_EQ(FormatDuration(725), "12m05s");
  EXPECT_EQ(FormatDuration(3599), "59m59s");
  EXPECT_EQ(FormatDuration(3964), "1h06m");
  EXPECT_EQ(FormatDuration(86399), "23h59m");
  EXPECT_EQ(FormatDuration(2 * 86400 + 3 * 3600 + 59), "2d03h");
  EXPECT_EQ(FormatDuration(-1), "?");
  EXPECT_EQ(FormatDuration(std::numeric_limits<double>::infinity()), "?");
}

TEST(LogLine, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(int64_t{1} << 20), "1.0 MiB");
  EXPECT_EQ(FormatBytes((int64_t{1} << 20) - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(static_cast<int64_t>(61.2 * kGib)), "61.2 GiB");
}

}  // namespace
}  // namespace ksa
