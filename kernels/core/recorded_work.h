// RecordedWork: operations that are queued again and again, with the same addresses and sizes each time.
#pragma once

#include <functional>

#include "kernels/core/device.h"

namespace ksa {

// On a GPU a CUDA graph: its operations go to the device in one call, and follow each other without the host. On the
// CPU the function itself, which runs again at each launch: what it computes is then known not to depend on more than
// the memory that it reads.
class RecordedWork {
 public:
  RecordedWork() = default;
  RecordedWork(const RecordedWork&) = delete;
  RecordedWork& operator=(const RecordedWork&) = delete;
  ~RecordedWork();

  [[nodiscard]] bool empty() const { return graph_ == nullptr && !work_; }

  // Takes what `work` queues on `stream`, which is not run by that. It must not wait for the stream nor copy from
  // ordinary host memory, and its memory and that of its operands stays where it is as long as this object lives. Once.
  void Record(const Stream& stream, std::function<void()> work);

  // Queues it on a stream of the same device.
  void Launch(const Stream& stream) const;

 private:
  void* graph_ = nullptr;
  std::function<void()> work_;
};

}  // namespace ksa
