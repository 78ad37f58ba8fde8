// Saves that fail: when they are tried again, and when the run ends.
#include "trainer/loop/saver.h"

#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace ksa {
namespace {

// A run of `updates` updates with a save every `interval`, whose tries at the updates `broken` fail.
struct Result {
  std::vector<int64_t> tried;
  std::vector<int64_t> slept;
  int warnings = 0;
  ExitCode code = ExitCode::kDone;
};

Result RunSaves(int32_t retries,
                int64_t updates,
                int64_t interval,
                const std::function<void(int64_t update, size_t number)>& save) {
  Result result;
  CheckpointSaver saver(retries,
                        {.save =
                             [&](int64_t update) {
                               result.tried.push_back(update);
                               save(update, result.tried.size());
                               return std::string("there");
                             },
                         .info = [](const std::string&) {},
                         .warn = [&](const std::string&) { ++result.warnings; },
                         .sleep = [&](int64_t seconds) { result.slept.push_back(seconds); }});
  try {
    for (int64_t update = 1; update <= updates; ++update) {
      static_cast<void>(saver.After(update, update % interval == 0 || update == updates, update == updates));
    }
  } catch (const Error& error) {
    result.code = error.code();
  }
  return result;
}

using Updates = std::vector<int64_t>;

TEST(CheckpointSaver, TriesAgainAfterTwiceAsManyUpdates) {
  const Result result = RunSaves(5, 100, 50, [](int64_t update, size_t) {
    if (update >= 50 && update < 60) {
      Fail(ExitCode::kIo, "the disk is full");
    }
  });
  EXPECT_EQ(result.tried, (Updates{50, 51, 53, 57, 65, 100}));
  EXPECT_EQ(result.warnings, 4);
  EXPECT_EQ(result.code, ExitCode::kDone);
}

TEST(CheckpointSaver, EndsAfterSoManyFurtherTries) {
  const auto broken = [](int64_t, size_t) { Fail(ExitCode::kCannotCreate, "read-only"); };
  EXPECT_EQ(RunSaves(5, 1000, 10, broken).tried, (Updates{10, 11, 13, 17, 25, 41}));
  EXPECT_EQ(RunSaves(5, 1000, 10, broken).code, ExitCode::kCannotCreate);
  EXPECT_EQ(RunSaves(0, 1000, 10, broken).tried, (Updates{10}));
  EXPECT_EQ(RunSaves(0, 1000, 10, broken).code, ExitCode::kCannotCreate);
}

TEST(CheckpointSaver, TriesLieAtMostSixtyFourUpdatesApart) {
  const Result result = RunSaves(9, 1000, 10, [](int64_t, size_t) { Fail(ExitCode::kIo, "full"); });
  EXPECT_EQ(result.tried, (Updates{10, 11, 13, 17, 25, 41, 73, 137, 201, 265}));
}

TEST(CheckpointSaver, WaitsBySecondsWhereNoUpdateFollows) {
  const Result result = RunSaves(5, 7, 100, [](int64_t, size_t number) {
    if (number <= 3) {
      Fail(ExitCode::kIo, "full");
    }
  });
  EXPECT_EQ(result.tried, (Updates{7, 7, 7, 7}));
  EXPECT_EQ(result.slept, (Updates{1, 2, 4}));
  EXPECT_EQ(result.code, ExitCode::kDone);
}

TEST(CheckpointSaver, OtherErrorsAreNotTriedAgain) {
  const Result result = RunSaves(5, 100, 10, [](int64_t, size_t) { Fail(ExitCode::kDiverged, "not finite"); });
  EXPECT_EQ(result.tried, (Updates{10}));
  EXPECT_EQ(result.code, ExitCode::kDiverged);
}

}  // namespace
}  // namespace ksa
