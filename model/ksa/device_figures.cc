#include "model/ksa/device_figures.h"

#include <algorithm>

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
