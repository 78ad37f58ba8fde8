// Where memory lives and work runs.
#pragma once

namespace ksa {

enum class DeviceKind : int { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int ordinal = 0;

  [[nodiscard]] bool IsCpu() const { return kind == DeviceKind::kCpu; }

  friend bool operator==(const Device&, const Device&) = default;
};

// In which order, and with how many cores, kernels run. On the CPU a call returns when its work is done and uses at
// most `threads` threads; on a device it is queued on `handle` (a cudaStream_t).
struct Stream {
  Device device;
  int threads = 1;
  void* handle = nullptr;
};

}  // namespace ksa
