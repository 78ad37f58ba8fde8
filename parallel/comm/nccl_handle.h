// Owns a communicator of NCCL. Only for a build with NCCL.
#pragma once

#include <nccl.h>

#include "kernels/core/device.h"
#include "parallel/comm/communicator.h"

namespace ksa {

class NcclHandle {
 public:
  // How calls wait for what they do on the host. kSettled: they come back at once, also while a rank is missing, and
  // Settle waits. kBlocking: the calls themselves do.
  enum class Calls : int { kSettled, kBlocking };

  // Made by all ranks of `host` together; `host` carries the id.
  NcclHandle(Communicator& host, const Device& device, double limit_seconds, Calls calls = Calls::kSettled);
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;
  // In good order waits for the other ranks to do the same; after an error, or when an exception is on its way, not.
  ~NcclHandle();

  [[nodiscard]] ncclComm_t get() const { return comm_; }

  // Throws what the result of an NCCL call means, naming the operation; in progress is fine.
  void Check(ncclResult_t result, const char* call, const char* op);

  // Runs `calls` as one group of NCCL and waits until they are queued on their streams.
  template <typename Calls>
  void Group(const char* op, const Calls& calls) {
    Check(ncclGroupStart(), "ncclGroupStart", op);
    calls();
    Check(ncclGroupEnd(), "ncclGroupEnd", op);
    Settle(op);
  }

  // Waits until the calls so far are queued.
  void Settle(const char* op);

  // Of all handles of the process, from any thread.
  static void PollErrors();

 private:
  // The state once it is not "in progress" any more, or that after the limit.
  [[nodiscard]] ncclResult_t Await(double limit_seconds) const;

  ncclComm_t comm_ = nullptr;
  bool failed_ = false;
};

}  // namespace ksa
