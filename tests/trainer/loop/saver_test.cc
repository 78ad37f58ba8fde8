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

// A run with saves that go on while it trains: each is over `duration` updates after it was begun.
struct AsyncResult {
  std::vector<int64_t> begun;
  std::vector<int64_t> completed;  // in which update After said so
  std::vector<int64_t> waited;     // in which it waited for the end
  std::vector<int64_t> at_once;    // saves that training waited for
  int warnings = 0;
  ExitCode code = ExitCode::kDone;
};

AsyncResult RunAsyncSaves(
    int64_t updates,
    int64_t interval,
    int64_t duration,
    const std::function<void(int64_t step)>& end = [](int64_t) {},
    int32_t retries = 5) {
  AsyncResult result;
  int64_t now = 0;
  const auto advance = [&](bool wait) -> std::optional<std::string> {
    if (wait) {
      result.waited.push_back(now);
    }
    end(result.begun.back());
    return "there";
  };
  CheckpointSaver saver(retries,
                        {.save =
                             [&](int64_t update) {
                               result.at_once.push_back(update);
                               return std::string("there");
                             },
                         .info = [](const std::string&) {},
                         .warn = [&](const std::string&) { ++result.warnings; },
                         .sleep = [](int64_t) {},
                         .begin = [&](int64_t update) { result.begun.push_back(update); },
                         .advance = advance});
  try {
    for (now = 1; now <= updates; ++now) {
      const bool over = saver.pending() && now >= result.begun.back() + duration;
      if (saver.After(now, now % interval == 0, now == updates, over)) {
        result.completed.push_back(now);
      }
    }
  } catch (const Error& error) {
    result.code = error.code();
  }
  EXPECT_FALSE(saver.pending());
  return result;
}

TEST(AsyncSaves, GoOnBesideTrainingAndTheLastOneIsWaitedFor) {
  const AsyncResult result = RunAsyncSaves(25, 10, 3);
  EXPECT_EQ(result.begun, (Updates{10, 20}));
  EXPECT_EQ(result.completed, (Updates{13, 23, 25}));
  EXPECT_EQ(result.waited, (Updates{}));
  EXPECT_EQ(result.at_once, (Updates{25}));
}

TEST(AsyncSaves, OneThatIsDueWaitsForTheOneBefore) {
  const AsyncResult result = RunAsyncSaves(25, 10, 100);
  EXPECT_EQ(result.begun, (Updates{10, 20}));
  EXPECT_EQ(result.waited, (Updates{20, 25}));
  EXPECT_EQ(result.at_once, (Updates{25}));
}

TEST(AsyncSaves, OneThatFailsIsTriedAgainWithTheStateOfThen) {
  const AsyncResult result = RunAsyncSaves(60, 50, 2, [](int64_t step) {
    if (step < 53) {
      Fail(ExitCode::kIo, "the disk is full");
    }
  });
  // Begun at 50, known at 52; again one update later, known at 55, by then there is room.
  EXPECT_EQ(result.begun, (Updates{50, 53}));
  EXPECT_EQ(result.completed, (Updates{55, 60}));
  EXPECT_EQ(result.warnings, 1);
  EXPECT_EQ(result.code, ExitCode::kDone);
}

TEST(AsyncSaves, GiveUpAfterSoManyTriesAndAtOnceWhereWritingIsNotTheCause) {
  const auto broken = [](int64_t) { Fail(ExitCode::kIo, "the disk is full"); };
  const AsyncResult result = RunAsyncSaves(1000, 10, 1, broken, 2);
  EXPECT_EQ(result.begun, (Updates{10, 12, 15}));
  EXPECT_EQ(result.code, ExitCode::kIo);
  const auto spoilt = [](int64_t) { Fail(ExitCode::kDiverged, "not finite"); };
  EXPECT_EQ(RunAsyncSaves(1000, 10, 1, spoilt).begun, (Updates{10}));
  EXPECT_EQ(RunAsyncSaves(1000, 10, 1, spoilt).code, ExitCode::kDiverged);
}

TEST(AsyncSaves, AFailureAtTheEndIsMadeGoodAtOnce) {
  const AsyncResult result = RunAsyncSaves(12, 10, 100, [](int64_t) { Fail(ExitCode::kIo, "the disk is full"); });
  EXPECT_EQ(result.at_once, (Updates{12}));
  EXPECT_EQ(result.warnings, 1);
  EXPECT_EQ(result.code, ExitCode::kDone);
}

}  // namespace
}  // namespace ksa
