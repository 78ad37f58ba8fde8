#include "model/ksa/device_figures.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "kernels/core/error.h"

namespace ksa {
namespace {

double LocalBandwidth(const DeviceFigures& figures, RingKind kind) {
  switch (kind) {
    case RingKind::kAllReduce:
      return figures.all_reduce_bytes;
    case RingKind::kReduceScatter:
      return figures.reduce_scatter_bytes;
    case RingKind::kAllGather:
      return figures.all_gather_bytes;
  }
  return 0.0;
}

}  // namespace

DeviceFigures H200Figures() {
  return {.peak_flops = 989e12,
          .product_flops = 650e12,
          .attention_forward_flops = 650e12,
          .attention_forward_half = 600.0,
          .attention_backward_flops = 465e12,
          .attention_backward_half = 420.0,
          .row_bytes = 3.6e12,
          .stream_bytes = 4.2e12,
          .all_reduce_bytes = 299e9,
          .reduce_scatter_bytes = 240e9,
          .all_gather_bytes = 255e9,
          .exchange_bytes = 305e9,
          .call_seconds = 15e-6,
          .sharing_share = 24.0 / 132.0,
          .host_gpus = 8,
          .remote_bytes = 0.9 * 50e9,
          .local_hop = 2e-6,
          .remote_hop = 8e-6};
}

// Computes as fast as an H200 and has its links; memory is slower in the ratio of what both are measured to read.
static DeviceFigures H100Figures() {
  constexpr double kMemory = 3.0 / 4.3;
  DeviceFigures figures = H200Figures();
  figures.row_bytes *= kMemory;
  figures.stream_bytes *= kMemory;
  return figures;
}

const std::vector<KnownDevice>& KnownDevices() {
  static const std::vector<KnownDevice> kDevices = {
      {.name = "H200", .memory_bytes = int64_t{139} << 30, .figures = H200Figures()},
      {.name = "H100", .memory_bytes = int64_t{79} << 30, .figures = H100Figures()}};
  return kDevices;
}

const KnownDevice& FindDevice(std::string_view name) {
  const auto same = [](std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
      return std::toupper(x) == std::toupper(y);
    });
  };
  std::string names;
  for (const KnownDevice& device : KnownDevices()) {
    if (same(name, device.name)) {
      return device;
    }
    names += (names.empty() ? "" : ", ") + std::string(device.name);
  }
  Fail(ExitCode::kConfig, "--device: there are no figures of a '{}'; there are of {}", name, names);
}

double RingSeconds(const DeviceFigures& figures, RingKind kind, const GroupShape& group, int64_t bytes) {
  if (group.ranks == 1 || bytes == 0) {
    return 0.0;
  }
  double bandwidth = LocalBandwidth(figures, kind);
  double hops = static_cast<double>(group.ranks - 1) * figures.local_hop;
  if (group.hosts > 1) {
    const double members = static_cast<double>(group.ranks) / static_cast<double>(group.hosts);
    bandwidth = std::min(bandwidth, members * figures.remote_bytes);
    hops = static_cast<double>(group.ranks - group.hosts) * figures.local_hop +
           static_cast<double>(group.hosts - 1) * figures.remote_hop;
  }
  const double passes = kind == RingKind::kAllReduce ? 2.0 : 1.0;
  return figures.call_seconds + passes * hops + static_cast<double>(bytes) / bandwidth;
}

double ExchangeSeconds(const DeviceFigures& figures, int64_t local_bytes, int64_t remote_bytes) {
  if (local_bytes + remote_bytes == 0) {
    return 0.0;
  }
  const double local = static_cast<double>(local_bytes) / figures.exchange_bytes;
  const double remote = static_cast<double>(remote_bytes) / figures.remote_bytes;
  return figures.call_seconds + std::max(local, remote) + (remote_bytes > 0 ? figures.remote_hop : 0.0);
}

}  // namespace ksa
