#ifdef KSA_HAVE_NCCL

#include "parallel/comm/nccl_handle.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/core/cuda.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// How long ranks wait for each other when they end in good order.
constexpr double kFinalizeSeconds = 30.0;

// All handles, for who looks after them from another thread.
struct Registry {
  std::mutex mutex;
  std::vector<ncclComm_t> comms;
};

Registry& AllHandles() {
  static Registry registry;
  return registry;
}

// A mistake of ours, or something that a new start can mend.
ExitCode CodeOf(ncclResult_t result) {
  switch (result) {
    case ncclInvalidArgument:
    case ncclInvalidUsage:
    case ncclUnhandledCudaError:
      return ExitCode::kInternal;
    default:
      return ExitCode::kPeerLost;
  }
}

void KeepMulticastOff() {
  static std::once_flag once;
  std::call_once(once, [] { setenv("NCCL_NVLS_ENABLE", "0", 0); });
}

ncclUniqueId ShareId(Communicator& host) {
  ncclUniqueId id{};
  if (host.rank() == 0) {
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess) {
      Fail(CodeOf(result), "ncclGetUniqueId failed: {}", ncclGetErrorString(result));
    }
  }
  std::string bytes(id.internal, sizeof id.internal);
  host.Broadcast(bytes, 0);
  KSA_CHECK(bytes.size() == sizeof id.internal, "an id of NCCL with {} bytes", bytes.size());
  std::memcpy(id.internal, bytes.data(), bytes.size());
  return id;
}

}  // namespace

NcclHandle::NcclHandle(Communicator& host, const Device& device, double limit_seconds, Calls calls) {
  KeepMulticastOff();
  KSA_CUDA_CHECK(cudaSetDevice(device.ordinal));
  const ncclUniqueId id = ShareId(host);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = calls == Calls::kBlocking ? 1 : 0;
  const ncclResult_t result = ncclCommInitRankConfig(&comm_, host.size(), id, host.rank(), &config);
  const bool started = result == ncclSuccess || result == ncclInProgress;
  const ncclResult_t state = started ? Await(limit_seconds) : result;
  if (state != ncclSuccess) {
    const std::string why = state == ncclInProgress ? fmt::format("not all ranks came within {} s", limit_seconds)
                                                    : std::string(ncclGetErrorString(state));
    const std::string detail = ncclGetLastError(nullptr);
    if (comm_ != nullptr) {
      ncclCommAbort(comm_);
    }
    Fail(CodeOf(state),
         "NCCL group '{}': rank {} of {} on GPU {}: {} {}",
         host.name(),
         host.rank(),
         host.size(),
         device.ordinal,
         why,
         detail);
  }
  Registry& all = AllHandles();
  const std::lock_guard lock(all.mutex);
  all.comms.push_back(comm_);
}

NcclHandle::~NcclHandle() {
  Registry& all = AllHandles();
  {
    const std::lock_guard lock(all.mutex);
    std::erase(all.comms, comm_);
  }
  bool good = !failed_ && std::uncaught_exceptions() == 0;
  if (good) {
    const ncclResult_t result = ncclCommFinalize(comm_);
    good = (result == ncclSuccess || result == ncclInProgress) && Await(kFinalizeSeconds) == ncclSuccess;
  }
  if (good) {
    ncclCommDestroy(comm_);
  } else {
    ncclCommAbort(comm_);
  }
}

void NcclHandle::Check(ncclResult_t result, const char* call, const char* op) {
  if (result == ncclSuccess || result == ncclInProgress) {
    return;
  }
  failed_ = true;
  Fail(CodeOf(result), "{}: {} failed: {} {}", op, call, ncclGetErrorString(result), ncclGetLastError(comm_));
}

ncclResult_t NcclHandle::Await(double limit_seconds) const {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  // Most calls are done within microseconds; what takes longer needs the core for NCCL's own threads.
  constexpr int kSpins = 1000;
  for (int i = 0;; ++i) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t result = ncclCommGetAsyncError(comm_, &state);
    if (result != ncclSuccess) {
      return result;
    }
    if (state != ncclInProgress || std::chrono::duration<double>(Clock::now() - start).count() > limit_seconds) {
      return state;
    }
    if (i > kSpins) {
      std::this_thread::yield();
    }
  }
}

void NcclHandle::Settle(const char* op) {
  // No limit: a peer that is late is not lost, and the watchdog knows where this rank waits.
  Check(Await(1e30), "queueing", op);
}

void NcclHandle::PollErrors() {
  Registry& all = AllHandles();
  const std::lock_guard lock(all.mutex);
  for (const ncclComm_t comm : all.comms) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t result = ncclCommGetAsyncError(comm, &state);
    const ncclResult_t error = result == ncclSuccess ? state : result;
    if (error != ncclSuccess && error != ncclInProgress) {
      Fail(CodeOf(error), "NCCL: {} {}", ncclGetErrorString(error), ncclGetLastError(comm));
    }
  }
}

}  // namespace ksa

#endif  // KSA_HAVE_NCCL
