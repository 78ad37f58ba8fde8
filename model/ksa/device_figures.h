// What a GPU and its links reach inside a training step: the measured figures that an estimate of a step is made of.
// Seconds, bytes and FLOPs a second, all for one GPU.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace ksa {

struct DeviceFigures {
  double peak_flops = 0.0;     // of the datasheet, for MFU
  double product_flops = 0.0;  // of matrix products, cross-entropy's included, under the power limit

  // Useful FLOPs (visible pairs; backward 2.5 times forward) of attention: rate · n / (n + half) where a text query
  // sees n keys on average. Fewer keys leave more of a kernel's time to its edges.
  double attention_forward_flops = 0.0;
  double attention_forward_half = 0.0;
  double attention_backward_flops = 0.0;
  double attention_backward_half = 0.0;

  double row_bytes = 0.0;     // read and written by norms, RoPE, SwiGLU and sums of rows
  double stream_bytes = 0.0;  // read and written by AdamW and the gradient norm

  // Bus bandwidth of collectives among GPUs of one host: bytes that leave a rank, as CommCount counts them.
  double all_reduce_bytes = 0.0;
  double reduce_scatter_bytes = 0.0;
  double all_gather_bytes = 0.0;
  double exchange_bytes = 0.0;
  double call_seconds = 0.0;   // what a call takes beyond its bytes
  double sharing_share = 0.0;  // of the GPU's arithmetic that a collective takes while it runs beside other work
  int host_gpus = 0;           // GPUs that reach each other at these bandwidths
  double remote_bytes = 0.0;   // each way, to other hosts
  double local_hop = 0.0;      // seconds a step of a ring, to a GPU of the same host
  double remote_hop = 0.0;     // and of another one
};

// A GPU that runs are planned for.
struct KnownDevice {
  std::string_view name;     // "H200"
  int64_t memory_bytes = 0;  // that a run finds free
  DeviceFigures figures;
};

[[nodiscard]] const std::vector<KnownDevice>& KnownDevices();

// By its name, in capitals or not. Error(kConfig) that lists the names.
[[nodiscard]] const KnownDevice& FindDevice(std::string_view name);

// NVIDIA H200 (700 W) with NVLink. Arithmetic, memory and bandwidths as measured (docs/performance.md,
// docs/scaling.md). Assumed: 400 Gb/s InfiniBand a GPU of which nine tenths are reached, hops of 2 and 8 us, and NCCL
// on 24 of 132 SMs.
[[nodiscard]] DeviceFigures H200Figures();

// Ranks of a group: how many there are, and on how many hosts, the same number on each.
struct GroupShape {
  int64_t ranks = 1;
  int64_t hosts = 1;
};

enum class RingKind : int { kAllReduce, kReduceScatter, kAllGather };

// A collective as a ring whose members of one host share their links to the next host, with `bytes` leaving each rank.
[[nodiscard]] double RingSeconds(const DeviceFigures& figures, RingKind kind, const GroupShape& group, int64_t bytes);

// Messages of a rank: the larger of what it sends and receives, to GPUs of its host and of others. Both travel at once.
[[nodiscard]] double ExchangeSeconds(const DeviceFigures& figures, int64_t local_bytes, int64_t remote_bytes);

}  // namespace ksa
