#ifdef KSA_HAVE_NCCL

#include "parallel/comm/nccl_handle.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/core/cuda.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "kernels/core/threads.h"
#include "parallel/comm/limited_call.h"
#include "parallel/comm/nccl.h"

namespace ksa {
namespace {

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

constexpr const char* kOrderVariable = "NCCL_LAUNCH_ORDER_IMPLICIT";
constexpr int kFirstWithOrder = 22600;  // 2.26

// NCCL reads these once, with its first communicator. What the user set stays.
NcclOrder SetEnvironment() {
  setenv("NCCL_NVLS_ENABLE", "0", 0);
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess || version < kFirstWithOrder) {
    return NcclOrder::kOneStream;
  }
  setenv(kOrderVariable, "1", 0);
  return std::strcmp(std::getenv(kOrderVariable), "1") == 0 ? NcclOrder::kByLaunch : NcclOrder::kOneStream;
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

// What the thread that makes a communicator leaves behind; it may come after nobody waits any more.
struct Start {
  ncclResult_t result = ncclInProgress;
  ncclComm_t comm = nullptr;
};

}  // namespace

NcclOrder NcclOrderHere() {
  static const NcclOrder order = SetEnvironment();
  return order;
}

NcclHandle::NcclHandle(Communicator& host, const Device& device, double limit_seconds) : device_(device) {
  static_cast<void>(NcclOrderHere());
  KSA_CUDA_CHECK(cudaSetDevice(device.ordinal));
  const auto start = std::make_shared<Start>();
  CheckThreadsStart(1);  // without one the call below would seem to wait for other ranks
  const bool came =
      CallWithin(limit_seconds, [start, id = ShareId(host), rank = host.rank(), size = host.size(), device] {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 1;
        const bool placed = cudaSetDevice(device.ordinal) == cudaSuccess;
        start->result = placed ? ncclCommInitRankConfig(&start->comm, size, id, rank, &config) : ncclUnhandledCudaError;
      });
  const ncclResult_t state = came ? start->result : ncclInProgress;
  if (state != ncclSuccess) {
    const std::string why =
        came ? std::string(ncclGetErrorString(state)) : fmt::format("not all ranks came within {} s", limit_seconds);
    Fail(CodeOf(state),
         "NCCL group '{}': rank {} of {} on GPU {}: {} {}",
         host.name(),
         host.rank(),
         host.size(),
         device.ordinal,
         why,
         ncclGetLastError(nullptr));
  }
  comm_ = start->comm;
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
  const ncclComm_t comm = comm_;
  const int ordinal = device_.ordinal;
  const EndCalls calls = {
      .close = [=] { return cudaSetDevice(ordinal) == cudaSuccess && ncclCommFinalize(comm) == ncclSuccess; },
      .forget = [=] { static_cast<void>(ncclCommDestroy(comm)); },
      .abort =
          [=] {
            static_cast<void>(cudaSetDevice(ordinal));
            static_cast<void>(ncclCommAbort(comm));
          }};
  const bool good = !failed_ && std::uncaught_exceptions() == 0;
  if (EndWithin(good, calls) == Ended::kLeft) {
    AbandonGpus();
  }
}

void NcclHandle::Check(ncclResult_t result, const char* call, const char* op) {
  if (result == ncclSuccess) {
    return;
  }
  failed_ = true;
  Fail(CodeOf(result), "{}: {} failed: {} {}", op, call, ncclGetErrorString(result), ncclGetLastError(comm_));
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
