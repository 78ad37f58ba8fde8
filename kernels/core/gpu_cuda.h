// The CUDA side of gpu.h.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/core/device.h"
#include "kernels/core/gpu.h"

namespace ksa::cuda {

[[nodiscard]] int GpuCount();
[[nodiscard]] GpuInfo QueryGpu(int ordinal);
void Synchronize(const Stream& stream);
[[nodiscard]] void* CreateStream(int ordinal);
void DestroyStream(void* handle) noexcept;
[[nodiscard]] void* CreateEvent();
void DestroyEvent(void* handle) noexcept;
void RecordEvent(void* event, const Stream& stream);
void WaitForEvent(void* event);
void HoldBack(void* event, const Stream& stream);  // the stream waits, the host does not
void UseGpu(int ordinal);                          // by this thread, from now on
[[nodiscard]] double MillisecondsBetween(void* start, void* end);
[[nodiscard]] void* TakePinned(int ordinal, int64_t bytes);
void GivePinned(void* data) noexcept;
[[nodiscard]] void* TakeDevice(int ordinal, int64_t bytes);  // null when there is not enough
void GiveDevice(void* data) noexcept;
// Queues a copy in the direction that the addresses say.
void QueueCopy(const void* from, void* to, int64_t bytes, const Stream& stream);
// What `work` queues on the stream, as a graph that can be launched; nothing of it has run.
[[nodiscard]] void* RecordGraph(const Stream& stream, const std::function<void()>& work);
void LaunchGraph(void* graph, const Stream& stream);
void DestroyGraph(void* graph) noexcept;

}  // namespace ksa::cuda
