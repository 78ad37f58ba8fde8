#include "trainer/run/side_thread.h"

#include <signal.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "kernels/core/error.h"

namespace ksa {

struct SideThread::Queue {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;  // the first is being done
  bool ending = false;

  void Run() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are for the main thread
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return ending || !work.empty(); });
      if (work.empty()) {
        return;
      }
      const std::function<void()>& first = work.front();  // a deque's elements stay where they are
      lock.unlock();
      first();
      lock.lock();
      work.pop_front();
      changed.notify_all();
    }
  }
};

SideThread::SideThread() : queue_(std::make_shared<Queue>()) {
  try {
    std::thread([queue = queue_] { queue->Run(); }).detach();
  } catch (const std::system_error& error) {
    Fail(ExitCode::kOutOfMemory, "a thread cannot be started: {}", error.what());
  }
}

SideThread::~SideThread() {
  const std::lock_guard lock(queue_->mutex);
  queue_->ending = true;
  queue_->changed.notify_all();
}

void SideThread::Add(std::function<void()> work) {
  const std::lock_guard lock(queue_->mutex);
  queue_->work.push_back(std::move(work));
  queue_->changed.notify_all();
}

bool SideThread::Finish(std::chrono::milliseconds limit) const {
  std::unique_lock lock(queue_->mutex);
  return queue_->changed.wait_for(lock, limit, [this] { return queue_->work.empty(); });
}

}  // namespace ksa
