// A file that only grows, on a disk that is full for a while.
#include "trainer/observe/append_file.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/trainer/checkpoint/support.h"
#include "trainer/observe/logger.h"
#include "trainer/observe/metrics.h"

namespace ksa::testing {
namespace {

// While it exists no file of this process grows beyond `bytes`: writing fails as on a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    before_ = signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &limit_), 0);
    rlimit low = limit_;
    low.rlim_cur = bytes;
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  }

  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

  ~FullDisk() {
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit_), 0);
    signal(SIGXFSZ, before_);
  }

 private:
  rlimit limit_{};
  sighandler_t before_ = SIG_DFL;
};

TEST(AppendFile, WhatFindsNoRoomWaitsAndLosesNoByte) {
  const ScratchFolder scratch;
  std::string expected;
  AppendFile file(scratch / "f", AppendFile::Kind::kRecords);
  const auto append = [&](const std::string& line) {
    file.Append(line);
    expected += line;
  };
  append("first line\n");
  EXPECT_EQ(file.trouble(), "");
  {
    const FullDisk full(15);  // the second line fits in part
    append("second line\n");
    EXPECT_EQ(file.trouble(), "File too large");
    append("third line\n");
    EXPECT_EQ(Slurp(scratch / "f"), "first line\nseco");
    EXPECT_EQ(ErrorOf([&] { file.Sync(); }).code(), ExitCode::kIo);
  }
  append("fourth line\n");
  EXPECT_EQ(file.trouble(), "");
  EXPECT_EQ(Slurp(scratch / "f"), expected);
  file.Sync();
}

TEST(AppendFile, TooManyRecordsAreAnErrorAndALogForgets) {
  const ScratchFolder scratch;
  AppendFile records(scratch / "records", AppendFile::Kind::kRecords, 100);
  AppendFile log(scratch / "log", AppendFile::Kind::kLog, 100);
  const FullDisk full(0);
  const std::string line(30, 'x');
  for (int i = 0; i < 3; ++i) {
    records.Append(line);
    log.Append(line);
  }
  EXPECT_EQ(ErrorOf([&] { records.Append(line); }).code(), ExitCode::kIo);
  log.Append(line);
  for (int i = 0; i < 100; ++i) {
    log.Append(line);
  }
}

TEST(AppendFile, NeverWaitsForAPipe) {
  const ScratchFolder scratch;
  ASSERT_EQ(mkfifo((scratch / "pipe").c_str(), 0600), 0);
  AppendFile file(scratch / "pipe", AppendFile::Kind::kLog, 1 << 20);
  for (int i = 0; i < 100; ++i) {
    file.Append(std::string(4096, 'x'));  // more than a pipe holds
  }
  EXPECT_NE(file.trouble(), "");
  AppendFile null("/dev/null", AppendFile::Kind::kRecords);
  null.Append("x\n");
  null.Sync();  // a device has nothing to flush
}

TEST(Metrics, AFullDiskDelaysRowsAndLosesNone) {
  const ScratchFolder scratch;
  MetricsWriter writer(scratch / "m", "00112233445566aa", 1);
  writer.Write({.step = 1});
  {
    const FullDisk full(static_cast<rlim_t>(std::filesystem::file_size(scratch / "m")) + 20);
    writer.Write({.step = 2});
    writer.Write({.step = 3});
    EXPECT_EQ(ReadMetrics(scratch / "m").size(), 1U);
  }
  writer.Write({.step = 4});
  const std::vector<MetricsLine> lines = ReadMetrics(scratch / "m");
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines.back().report.step, 4);
}

TEST(Metrics, FindsTheRowOfOneUpdate) {
  const ScratchFolder scratch;
  for (int64_t attempt = 1; attempt <= 2; ++attempt) {
    MetricsWriter writer(scratch / "m", "00112233445566aa", attempt);
    for (int64_t step = 10 * attempt; step <= 25; ++step) {
      writer.Write({.step = step, .loss = static_cast<double>(100 * attempt + step)});
    }
  }
  EXPECT_EQ(FindMetrics(scratch / "m", 12)->report.loss, 112);
  EXPECT_EQ(FindMetrics(scratch / "m", 22)->report.loss, 222);
  EXPECT_FALSE(FindMetrics(scratch / "m", 2).has_value());
  EXPECT_EQ(LastAttemptOf(scratch / "m")->attempt, 2);
}

TEST(Logger, KeepsForItsFileWhatWasSaidBefore) {
  const ScratchFolder scratch;
  Logger logger(0);
  logger.Info("early");
  EXPECT_EQ(logger.file(), nullptr);
  logger.AttachFile(scratch / "log.txt");
  logger.Record("late");
  EXPECT_EQ(Slurp(scratch / "log.txt"), "early\nlate\n");
}

}  // namespace
}  // namespace ksa::testing
