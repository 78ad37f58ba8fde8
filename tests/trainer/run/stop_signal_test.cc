// Requests to stop: signals, files, the clock; and the end that cannot hang.
#include "trainer/run/stop_signal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/run/exit_deadline.h"
#include "trainer/run/requests.h"
#include "trainer/run/wall_limit.h"

namespace ksa::testing {
namespace {

// How a child process ends that runs `work`: its exit code, or 128 + the signal.
int EndOf(const std::function<int()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    StopSignal().Consume();  // what an earlier test of this process was asked
    _exit(work());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int AsCode(StopCause cause) {
  return static_cast<int>(cause);
}

TEST(StopSignal, CausesOfSignals) {
  const auto after = [](std::vector<int> numbers) {
    return EndOf([&] {
      const StopSignal stop;
      if (stop.Requested()) {
        return 99;
      }
      for (const int number : numbers) {
        raise(number);
      }
      return AsCode(stop.Cause());
    });
  };
  EXPECT_EQ(after({}), AsCode(StopCause::kNone));
  EXPECT_EQ(after({SIGUSR1}), AsCode(StopCause::kScheduler));
  EXPECT_EQ(after({SIGTERM}), AsCode(StopCause::kScheduler));
  EXPECT_EQ(after({SIGINT}), AsCode(StopCause::kPerson));
  EXPECT_EQ(after({SIGHUP}), AsCode(StopCause::kPerson));
  EXPECT_EQ(after({SIGINT, SIGTERM}), AsCode(StopCause::kPerson)) << "a person's run is not started again";
  EXPECT_EQ(after({SIGUSR1, SIGHUP}), AsCode(StopCause::kPerson));
  EXPECT_EQ(after({SIGPIPE}), AsCode(StopCause::kNone)) << "a reader that goes away ends nothing";
  EXPECT_EQ(after({SIGHUP, SIGHUP, SIGTERM, SIGUSR1, SIGTERM}), AsCode(StopCause::kPerson));
}

TEST(StopSignal, ASecondInterruptEndsAtOnce) {
  EXPECT_EQ(EndOf([] {
              CatchStopSignals();
              raise(SIGINT);
              raise(SIGINT);
              return 0;
            }),
            128 + SIGINT);
  EXPECT_EQ(EndOf([] {
              const StopSignal stop;
              raise(SIGINT);
              stop.Consume();  // the run has ended, the process not yet
              raise(SIGINT);
              return 0;
            }),
            128 + SIGINT);
}

TEST(StopSignal, WhatWasIgnoredStaysIgnored) {
  EXPECT_EQ(EndOf([] {
              signal(SIGHUP, SIG_IGN);  // nohup
              signal(SIGINT, SIG_IGN);  // a shell's background job
              const StopSignal stop;
              raise(SIGHUP);
              raise(SIGINT);
              raise(SIGINT);
              return AsCode(stop.Cause());
            }),
            AsCode(StopCause::kNone));
}

// Libraries that MPI loads put handlers of their own in place of ours.
TEST(StopSignal, WhatALibraryTookIsTakenBack) {
  const auto take = [] {
    for (const int number : {SIGUSR1, SIGTERM, SIGINT, SIGHUP}) {
      signal(number, [](int) {});
    }
  };
  for (const int number : {SIGUSR1, SIGTERM, SIGINT, SIGHUP}) {
    EXPECT_NE(EndOf([&] {
                const StopSignal stop;
                take();
                static_cast<void>(stop.Requested());  // as once an update
                raise(number);
                return AsCode(stop.Cause());
              }),
              AsCode(StopCause::kNone))
        << number;
  }
  EXPECT_EQ(EndOf([&] {
              signal(SIGHUP, SIG_IGN);  // nohup
              const StopSignal stop;
              take();
              static_cast<void>(stop.Requested());
              raise(SIGHUP);
              return AsCode(stop.Cause());
            }),
            AsCode(StopCause::kNone));
}

TEST(StopSignal, HandlersStayWhenTheObjectIsGone) {
  EXPECT_EQ(EndOf([] {
              { const StopSignal stop; }
              raise(SIGTERM);
              raise(SIGUSR1);
              return 7;
            }),
            7);
}

TEST(StopSignal, AFileIsARequestAndIsConsumed) {
  const ScratchFolder scratch;
  const StopSignal stop(scratch / "STOP");
  stop.Consume();
  EXPECT_FALSE(stop.Requested());
  EXPECT_EQ(stop.Reason(), "");
  Spill(scratch / "STOP", "");
  EXPECT_EQ(stop.Cause(), StopCause::kPerson);
  EXPECT_EQ(stop.Reason(), "the file " + (scratch / "STOP"));
  stop.Consume();
  EXPECT_FALSE(stop.Requested());
  EXPECT_FALSE(std::filesystem::exists(scratch / "STOP"));
  raise(SIGUSR1);
  EXPECT_EQ(stop.Reason(), "SIGUSR1");
  stop.Consume();
  EXPECT_FALSE(stop.Requested());
}

TEST(WallLimit, LeavesRoomForAnUpdateAndASave) {
  using std::chrono::milliseconds;
  const WallLimit::Clock::time_point start = WallLimit::Clock::now();
  const auto after = [&](double seconds) { return start + milliseconds(static_cast<int64_t>(seconds * 1e3)); };
  WallLimit limit(10.0, start, 30.0);  // 600 s; 5 % of it, 30 s, are kept
  EXPECT_FALSE(limit.Reached(after(539)));
  EXPECT_TRUE(limit.Reached(after(541)));
  limit.TookUpdate(5);
  limit.TookUpdate(20);
  limit.TookUpdate(1);
  EXPECT_FALSE(limit.Reached(after(519)));
  EXPECT_TRUE(limit.Reached(after(521)));
  limit.TookSave(10);  // measured: the guess no longer counts
  EXPECT_FALSE(limit.Reached(after(539)));
  EXPECT_TRUE(limit.Reached(after(541)));
  limit.TookSave(2);
  limit.SavePending(true);  // the end waits for that one, too
  EXPECT_FALSE(limit.Reached(after(529)));
  EXPECT_TRUE(limit.Reached(after(531)));
  limit.SavePending(false);
  EXPECT_TRUE(limit.Reached(after(541)));
  EXPECT_FALSE(WallLimit(std::nullopt, start, 1e9).Reached(after(1e6)));
  EXPECT_EQ(limit.Reason(), "run.max_wall_minutes, 10");
}

TEST(Requests, RanksActTogether) {
  const ScratchFolder scratch;
  const WallLimit none(std::nullopt, WallLimit::Clock::now(), 0.0);
  RunRanks(3, [&](Communicator& world) {
    const RunFolder folder(scratch / "run", world);
    const Requests requests(world, &folder, none);
    Wish wish = requests.Agree();
    EXPECT_EQ(wish.stop, StopCause::kNone);
    EXPECT_FALSE(wish.save);
    world.Barrier();
    if (world.rank() == 1) {  // rank 0 alone looks
      Spill(scratch / "run/SAVE", "");
    }
    world.Barrier();
    wish = requests.Agree();
    EXPECT_EQ(wish.stop, StopCause::kNone);
    EXPECT_TRUE(wish.save);
    world.Barrier();
    if (world.rank() == 2) {
      Spill(scratch / "run/STOP", "");
    }
    world.Barrier();
    wish = requests.Agree();
    EXPECT_EQ(wish.stop, StopCause::kPerson);
    EXPECT_EQ(wish.reason, "the file " + (scratch / "run/STOP"));
    world.Barrier();
  });
  RunRanks(2, [&](Communicator& world) {
    const WallLimit over(0.001, WallLimit::Clock::now() - std::chrono::seconds(1), 0.0);
    const Requests requests(world, nullptr, world.rank() == 0 ? over : none);
    const Wish wish = requests.Agree();
    EXPECT_EQ(wish.stop, StopCause::kScheduler);
    EXPECT_EQ(wish.reason, "run.max_wall_minutes, 0.001");
  });
}

TEST(Requests, CountThoseThatAreOver) {
  const WallLimit none(std::nullopt, WallLimit::Clock::now(), 0.0);
  RunRanks(3, [&](Communicator& world) {
    const Requests requests(world, nullptr, none);
    EXPECT_FALSE(requests.Agree().all_over);
    EXPECT_FALSE(requests.Agree(world.rank() != 1).all_over);
    const Wish wish = requests.Agree(true);
    EXPECT_TRUE(wish.all_over);
    EXPECT_EQ(wish.stop, StopCause::kNone);
    EXPECT_FALSE(wish.save);
  });
}

TEST(ExitDeadline, EndsWhatHangsWithTheCodeOfTheRun) {
  EXPECT_EQ(EndOf([] {
              EndWithin(1, ExitCode::kStopped);
              while (true) {
                pause();  // a take-down that never ends
              }
              return 1;
            }),
            85);
}

}  // namespace
}  // namespace ksa::testing
