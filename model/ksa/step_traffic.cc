#include "model/ksa/step_traffic.h"

#include <set>

#include "parallel/context/slices.h"

namespace ksa {

int64_t Topology::HostOf(int64_t data, int64_t context, int64_t tensor) const {
  return ((data * mesh_.context + context) * mesh_.tensor + tensor) / figures_.host_gpus;
}

bool Topology::IsRemote(TrafficGroup group, int peer) const {
  const int64_t other = group == TrafficGroup::kContext ? HostOf(0, peer, tensor_) : HostOf(0, context_, peer);
  return other != HostOf(0, context_, tensor_);
}

GroupShape Topology::ShapeOf(TrafficGroup group, int replicas) const {
  std::set<int64_t> hosts;
  int64_t ranks = 0;
  const auto add = [&](int64_t data, int64_t context, int64_t tensor) {
    ++ranks;
    hosts.insert(HostOf(data, context, tensor));
  };
  if (group == TrafficGroup::kState) {
    for (int64_t data = 0; data < mesh_.data; ++data) {
      for (int64_t context = 0; context < mesh_.context; ++context) {
        add(data, context, tensor_);
      }
    }
  } else {
    const int64_t begin = group == TrafficGroup::kReplicas ? tensor_ / replicas * replicas : 0;
    const int64_t count = group == TrafficGroup::kReplicas ? replicas : mesh_.tensor;
    for (int64_t tensor = begin; tensor < begin + count; ++tensor) {
      add(0, context_, tensor);
    }
  }
  return {ranks, static_cast<int64_t>(hosts.size())};
}

Volume KeysVolume(const KeysPlan& plan, const SummaryLayout& whole, int64_t row_bytes, const Topology& topology) {
  Volume volume;
  const auto add = [&](const std::vector<ChunkPiece>& pieces, bool summaries, int64_t& all, int64_t& remote) {
    for (const auto& [peer, chunks] : pieces) {
      const int64_t rows = summaries ? int64_t{1} * chunks.size() * whole.summary_tokens : TokensOf(whole, chunks);
      const int64_t bytes = 2 * row_bytes * rows * whole.sequences;
      all += bytes;
      remote += topology.IsRemote(TrafficGroup::kContext, peer) ? bytes : 0;
    }
  };
  add(plan.text_sends, false, volume.sent, volume.remote_sent);
  add(plan.summary_sends, true, volume.sent, volume.remote_sent);
  add(plan.text_receives, false, volume.received, volume.remote_received);
  add(plan.summary_receives, true, volume.received, volume.remote_received);
  return volume;
}

Volume HeadsVolume(const SummaryLayout& whole,
                   const MeshShape& mesh,
                   int context,
                   int64_t columns,
                   int64_t element_bytes,
                   const Topology& topology) {
  const auto ranks = static_cast<int>(mesh.context);
  const ExchangedRows elements = HeadExchangeElements(whole, ranks, context, false, columns);
  int remote = 0;
  for (int peer = 0; peer < ranks; ++peer) {
    remote += topology.IsRemote(TrafficGroup::kContext, peer) ? 1 : 0;
  }
  Volume volume = {.sent = elements.sent * element_bytes, .received = elements.received * element_bytes};
  volume.remote_sent = volume.sent * remote / (ranks - 1);
  volume.remote_received = volume.received * remote / (ranks - 1);
  return volume;
}

Volume GatherVolume(
    const RowCounts& rows, const MeshShape& mesh, int tensor, int64_t row_bytes, const Topology& topology) {
  Volume volume;
  const auto ranks = static_cast<int>(mesh.tensor);
  const int64_t own = rows.Part(ranks, tensor).total() * row_bytes;
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == tensor) {
      continue;
    }
    const int64_t theirs = rows.Part(ranks, peer).total() * row_bytes;
    const bool remote = topology.IsRemote(TrafficGroup::kTensor, peer);
    volume.sent += own;
    volume.received += theirs;
    volume.remote_sent += remote ? own : 0;
    volume.remote_received += remote ? theirs : 0;
  }
  return volume;
}

}  // namespace ksa
