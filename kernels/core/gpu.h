// GPUs without CUDA's headers: what there is, streams, events, pinned memory, copies. The same face in a build without
// CUDA, where there are no GPUs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/core/arena.h"
#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "kernels/core/stream_resources.h"
#include "kernels/core/tensor.h"

namespace ksa {

// CUDA, or a library on it, reported an error. The message names the call and its place in our sources.
class DeviceError : public Error {
 public:
  using Error::Error;
};

struct GpuInfo {
  std::string name;  // as the driver gives it: "NVIDIA H200"
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;
  int multiprocessors = 0;
  int major = 0;  // compute capability
  int minor = 0;
};

[[nodiscard]] int GpuCount();  // 0 without a driver, a GPU, or CUDA in this build
[[nodiscard]] GpuInfo QueryGpu(int ordinal);

// For when what is queued on a GPU will never end, since a library that waits for other ranks could not be stopped: the
// process is about to end, and from now on destructors leave memory and handles of GPUs to its end instead of waiting
// for the GPU. There is no way back.
void AbandonGpus() noexcept;
[[nodiscard]] bool GpusAreAbandoned() noexcept;

// Waits until everything queued on the stream is done. No-op on the CPU and on a dry stream.
void Synchronize(const Stream& stream);

// The slabs of an arena from a GPU's memory.
class GpuSlabs final : public SlabSource {
 public:
  explicit GpuSlabs(int ordinal) : device_{DeviceKind::kCuda, ordinal} {}

  [[nodiscard]] Device device() const override { return device_; }

  [[nodiscard]] void* Take(int64_t bytes) override;
  void Give(void* slab, int64_t bytes) noexcept override;

 private:
  Device device_;
};

// Owns a stream of a GPU. stream() is what kernels take; `threads` is for the host side of an operation. Takes
// kWorkspaceBytes of the GPU's memory for the libraries that kernels call.
class GpuStream {
 public:
  static constexpr int64_t kWorkspaceBytes = int64_t{64} << 20;

  GpuStream(int ordinal, int threads);
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;
  ~GpuStream();

  [[nodiscard]] const Stream& stream() const { return stream_; }

 private:
  GpuSlabs slabs_;
  std::unique_ptr<StreamResources> resources_;
  Stream stream_;
};

// A moment in a stream's work.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();

  void Record(const Stream& stream);  // on the CPU and on a dry stream: nothing
  void Wait() const;                  // until the recorded moment has passed; at once when nothing was recorded
  // From `start` to this one; both recorded on GPU streams, and waited for.
  [[nodiscard]] double MillisecondsSince(const Event& start) const;

 private:
  void* handle_ = nullptr;
};

// Host memory that the stream's GPU copies from and to without a detour; for the CPU and a dry stream ordinary memory.
class PinnedMemory {
 public:
  PinnedMemory(int64_t bytes, const Stream& stream);
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  ~PinnedMemory();

  [[nodiscard]] void* data() const { return data_; }

  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_;
  bool pinned_;
};

// Copies between host memory and where `stream` computes (which may be the host as well). Both have one type and as
// many elements. CopyFromHost: with pinned memory the copy is queued and `from` must stay until the stream has passed
// it; with other memory `from` may be reused on return. CopyToHost waits for the stream; from a dry stream come zeros.
void CopyFromHost(const TensorView& from, const TensorView& to, const Stream& stream);
void CopyToHost(const TensorView& from, const TensorView& to, const Stream& stream);

// Host memory with the contents of a tensor: the tensor's own when it lies there, else a copy.
class HostCopy {
 public:
  HostCopy(const TensorView& x, const Stream& stream);

  [[nodiscard]] const TensorView& view() const { return view_; }

  template <typename T>
  [[nodiscard]] const T* As() const {
    return view_.As<T>();
  }

 private:
  std::vector<char> bytes_;
  TensorView view_;
};

}  // namespace ksa
