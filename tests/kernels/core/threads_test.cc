// Threads that the system refuses are an error with advice, and leave nothing behind.
#include "kernels/core/threads.h"

#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

TEST(Threads, RunTheirBody) {
  std::atomic<int> ran{0};
  StartThread("adds", [&ran] { ++ran; }).join();
  EXPECT_EQ(ran, 1);
  CheckThreadsStart(3);
}

// In a process of its own, whose address space has no room for another stack.
template <typename Body>
int ExitCodeWithoutRoom(const Body& body) {
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = 1 << 20;
  setrlimit(RLIMIT_AS, &limit);
  int code = 0;
  std::string message;
  try {
    ThrowAsErrors(body);
  } catch (const Error& error) {
    code = static_cast<int>(error.code());
    message = error.what();
  }
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_AS, &limit);
  fmt::print(stderr, "{}\n", message);
  return code;
}

#ifndef __SANITIZE_ADDRESS__  // which cannot live in so little address space

TEST(ThreadsDeathTest, RefusedIsOutOfMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a new process, which has no stack of an earlier thread to spare
  EXPECT_EXIT(std::_Exit(ExitCodeWithoutRoom([] { StartThread("reads batches ahead", [] {}).join(); })),
              ::testing::ExitedWithCode(71),
              "cannot start the thread that reads batches ahead: .*run.threads");
  EXPECT_EXIT(std::_Exit(ExitCodeWithoutRoom([] { CheckThreadsStart(5); })),
              ::testing::ExitedWithCode(71),
              "cannot start 5 threads, only 0: .*ulimit -u");
  EXPECT_EXIT(std::_Exit(ExitCodeWithoutRoom([] { std::thread([] {}).join(); })),
              ::testing::ExitedWithCode(71),
              "out of memory, or of threads");
}

#endif

}  // namespace
}  // namespace ksa
