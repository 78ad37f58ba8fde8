// Owns a communicator of NCCL. Only for a build with NCCL.
#pragma once

#include <nccl.h>

#include "kernels/core/device.h"
#include "parallel/comm/communicator.h"

namespace ksa {

class NcclHandle {
 public:
  // Made by all ranks of `host` together; `host` carries the id. Ranks find each other in a thread that is waited for
  // no longer than the limit. Calls then return once they are queued: NCCL's non-blocking calls would start a thread
  // each, 70 to 110 us of the host against 10 (measured on 2 H200).
  NcclHandle(Communicator& host, const Device& device, double limit_seconds);
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;
  // In good order waits for the other ranks to do the same; after an error, or when an exception is on its way, not.
  // Never longer than EndWithin's limits.
  ~NcclHandle();

  [[nodiscard]] ncclComm_t get() const { return comm_; }

  // Throws what the result of an NCCL call means, naming the operation.
  void Check(ncclResult_t result, const char* call, const char* op);

  // Runs `calls` as one group of NCCL, which is queued on its streams at the end. A group belongs to the thread: when
  // `calls` throws it is closed as well, or all that the thread asks of NCCL later, the end of this handle included,
  // would wait for that.
  template <typename Calls>
  void Group(const char* op, const Calls& calls) {
    Check(ncclGroupStart(), "ncclGroupStart", op);
    try {
      calls();
    } catch (...) {
      failed_ = true;  // what was queued of the group may wait for ever
      static_cast<void>(ncclGroupEnd());
      throw;
    }
    Check(ncclGroupEnd(), "ncclGroupEnd", op);
  }

  // Of all handles of the process, from any thread.
  static void PollErrors();

 private:
  Device device_;
  ncclComm_t comm_ = nullptr;
  bool failed_ = false;
};

}  // namespace ksa
