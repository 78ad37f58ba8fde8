// A thread for work that may hang, in a file system or in a library, so that who asked for it need not.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace ksa {

class SideThread {
 public:
  SideThread();  // Error(kOutOfMemory) when there is no thread for it
  SideThread(const SideThread&) = delete;
  SideThread& operator=(const SideThread&) = delete;
  // What was added is still done, but nobody waits for it: `work` owns what it uses.
  ~SideThread();

  // `work` is done after all that was added before; it does not throw.
  void Add(std::function<void()> work);

  // Waits until everything that was added is done, `limit` at most. Whether it is.
  [[nodiscard]] bool Finish(std::chrono::milliseconds limit) const;

 private:
  struct Queue;

  std::shared_ptr<Queue> queue_;  // shared with the thread, which may outlive this
};

}  // namespace ksa
