#include "kernels/core/threads.h"

#include <future>
#include <string>
#include <vector>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr const char* kAdvice =
    "ask for fewer threads (run.threads, --threads), or raise what limits them: processes of the user (ulimit -u), "
    "address space (ulimit -v), tasks of the cgroup (pids.max)";

}  // namespace

namespace internal {

void FailThread(const char* purpose, const std::system_error& error) {
  Fail(ExitCode::kOutOfMemory, "cannot start the thread that {}: {}; {}", purpose, error.code().message(), kAdvice);
}

}  // namespace internal

void CheckThreadsStart(int count) {
  std::promise<void> open;
  const std::shared_future<void> gate = open.get_future().share();
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  std::string refused;
  try {
    while (static_cast<int>(threads.size()) < count) {
      threads.emplace_back([gate] { gate.wait(); });
    }
  } catch (const std::system_error& error) {
    refused = error.code().message();
  }
  open.set_value();
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (!refused.empty()) {
    Fail(ExitCode::kOutOfMemory, "cannot start {} threads, only {}: {}; {}", count, threads.size(), refused, kAdvice);
  }
}

}  // namespace ksa
