// Where memory lives and work runs.
#pragma once

#include <atomic>
#include <cstdint>

namespace ksa {

enum class DeviceKind : int { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int ordinal = 0;

  [[nodiscard]] bool IsCpu() const { return kind == DeviceKind::kCpu; }

  friend bool operator==(const Device&, const Device&) = default;
};

class StreamResources;
class Tracer;

// In which order, and with how many cores, kernels run. On the CPU a call returns when its work is done and uses at
// most `threads` threads; on a device it is queued on `handle` (a cudaStream_t).
struct Stream {
  Device device;
  int threads = 1;
  void* handle = nullptr;
  // A device stream that computes nothing: calls check their arguments and take and give back memory as always, but
  // launch no kernel and touch no element, so that memory can be planned with addresses that do not exist.
  bool dry = false;
  bool deterministic = true;  // false: faster kernels may be used whose order of additions varies from run to run
  bool synchronous = false;   // debugging: every operation ends with a wait, so that an error is reported by its cause
  Tracer* tracer = nullptr;   // is told when each operation begins and ends; or null
  std::atomic<int64_t>* operations = nullptr;  // counts those that began, for a thread that watches; or null
  StreamResources* resources = nullptr;        // of a device stream that computes: its libraries' handles and workspace
};

}  // namespace ksa
