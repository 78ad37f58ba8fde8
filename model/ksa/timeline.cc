#include "model/ksa/timeline.h"

#include <algorithm>
#include <set>

namespace ksa {
namespace {

// Attention where a text query sees `keys` keys on average: fewer leave more of a kernel's time to its edges.
double AttentionRate(double limit, double half, double keys) {
  return limit * keys / (keys + half);
}

double ArithmeticSeconds(const OpWork& work, const DeviceFigures& figures) {
  const auto done = static_cast<double>(work.done);
  const double keys =
      static_cast<double>(work.text_pairs) / static_cast<double>(std::max<int64_t>(1, work.text_queries));
  switch (work.kind) {
    case WorkKind::kProduct:
      return done / figures.product_flops;
    case WorkKind::kAttentionForward:
      return done == 0.0 ? 0.0
                         : done / AttentionRate(figures.attention_forward_flops, figures.attention_forward_half, keys);
    case WorkKind::kAttentionBackward:
      return done == 0.0
                 ? 0.0
                 : done / AttentionRate(figures.attention_backward_flops, figures.attention_backward_half, keys);
    case WorkKind::kNone:
    case WorkKind::kRows:
    case WorkKind::kStream:
      break;
  }
  return 0.0;
}

// Follows a rank through its events.
class Clock {
 public:
  Clock(const WorkLog& log, const RankTopology& topology, const DeviceFigures& figures)
      : log_(log), topology_(topology), figures_(figures) {}

  void Visit(const StepEvent& event) {
    switch (event.type) {
      case StepEvent::Type::kWork:
        Compute(event.work);
        break;
      case StepEvent::Type::kMove:
        Move(event);
        break;
      case StepEvent::Type::kWait:
        Wait(event.group);
        break;
      case StepEvent::Type::kMark:
        break;
    }
  }

  [[nodiscard]] StepSeconds Finish() {
    for (int i = 0; i < kTrafficGroups; ++i) {
      Wait(static_cast<TrafficGroup>(i));
      GroupSeconds& group = seconds_.groups[static_cast<size_t>(i)];
      group.hidden = std::max(0.0, moving_[static_cast<size_t>(i)] - group.exposed);
      seconds_.sharing += group.hidden * figures_.sharing_share;
    }
    return seconds_;
  }

 private:
  void Compute(const OpWork& work) {
    const double seconds = SecondsOf(work, figures_);
    now_ += seconds;
    switch (work.kind) {
      case WorkKind::kNone:
        break;
      case WorkKind::kProduct:
        seconds_.products += seconds;
        break;
      case WorkKind::kAttentionForward:
      case WorkKind::kAttentionBackward:
        seconds_.attention += seconds;
        break;
      case WorkKind::kRows:
        seconds_.rows += seconds;
        break;
      case WorkKind::kStream:
        seconds_.optimizer += seconds;
        break;
    }
  }

  void Move(const StepEvent& event) {
    const auto group = static_cast<size_t>(event.group);
    const double seconds = Duration(event);
    last_begin_ = std::max({now_, last_begin_, end_[group]});
    end_[group] = last_begin_ + seconds;
    moving_[group] += seconds;
  }

  void Wait(TrafficGroup group) {
    const double stands = std::max(0.0, end_[static_cast<size_t>(group)] - now_);
    seconds_.groups[static_cast<size_t>(group)].exposed += stands;
    now_ += stands;
  }

  [[nodiscard]] double Duration(const StepEvent& event) const {
    const auto ring = [&](RingKind kind) {
      return RingSeconds(figures_, kind, topology_.ShapeOf(event.group), std::max(event.sent, event.received));
    };
    switch (event.kind) {
      case CollectiveKind::kAllReduce:
        return ring(RingKind::kAllReduce);
      case CollectiveKind::kReduceScatter:
        return ring(RingKind::kReduceScatter);
      case CollectiveKind::kAllGather:
      case CollectiveKind::kAllToAll:
      case CollectiveKind::kBroadcast:
        return ring(RingKind::kAllGather);
      case CollectiveKind::kExchange:
        return Exchange(event);
      case CollectiveKind::kHost:
        break;
    }
    return 0.0;
  }

  [[nodiscard]] double Exchange(const StepEvent& event) const {
    int64_t sent[2] = {};  // on this host, to others
    int64_t received[2] = {};
    for (size_t i = event.first_part; i < event.first_part + event.parts; ++i) {
      const ExchangePart& part = log_.parts()[i];
      const int remote = topology_.IsRemote(event.group, part.peer) ? 1 : 0;
      sent[remote] += part.sent;
      received[remote] += part.received;
    }
    return ExchangeSeconds(figures_, std::max(sent[0], received[0]), std::max(sent[1], received[1]));
  }

  const WorkLog& log_;
  const RankTopology& topology_;
  const DeviceFigures& figures_;
  StepSeconds seconds_;
  double now_ = 0.0;
  double last_begin_ = 0.0;                      // of the collective that was asked for last
  std::array<double, kTrafficGroups> end_{};     // of the group's last collective
  std::array<double, kTrafficGroups> moving_{};  // seconds in the group's collectives
};

}  // namespace

RankTopology::RankTopology(const MeshShape& mesh, int host_gpus, int rank, int replicas)
    : mesh_(mesh),
      host_gpus_(host_gpus),
      data_(rank / (mesh.context * mesh.tensor)),
      context_(rank / mesh.tensor % mesh.context),
      tensor_(rank % mesh.tensor) {
  for (int i = 0; i < kTrafficGroups; ++i) {
    shapes_[static_cast<size_t>(i)] = Shape(static_cast<TrafficGroup>(i), replicas);
  }
}

int64_t RankTopology::HostOf(int64_t data, int64_t context, int64_t tensor) const {
  return ((data * mesh_.context + context) * mesh_.tensor + tensor) / host_gpus_;
}

bool RankTopology::IsRemote(TrafficGroup group, int peer) const {
  const int64_t other = group == TrafficGroup::kContext ? HostOf(data_, peer, tensor_) : HostOf(data_, context_, peer);
  return other != HostOf(data_, context_, tensor_);
}

GroupShape RankTopology::Shape(TrafficGroup group, int replicas) const {
  std::set<int64_t> hosts;
  GroupShape shape = {.ranks = 0};
  const auto add = [&](int64_t data, int64_t context, int64_t tensor) {
    ++shape.ranks;
    hosts.insert(HostOf(data, context, tensor));
  };
  switch (group) {
    case TrafficGroup::kState:
      for (int64_t data = 0; data < mesh_.data; ++data) {
        for (int64_t context = 0; context < mesh_.context; ++context) {
          add(data, context, tensor_);
        }
      }
      break;
    case TrafficGroup::kContext:
      for (int64_t context = 0; context < mesh_.context; ++context) {
        add(data_, context, tensor_);
      }
      break;
    case TrafficGroup::kTensor:
      for (int64_t tensor = 0; tensor < mesh_.tensor; ++tensor) {
        add(data_, context_, tensor);
      }
      break;
    case TrafficGroup::kReplicas:
      for (int64_t i = 0; i < replicas; ++i) {
        add(data_, context_, tensor_ / replicas * replicas + i);
      }
      break;
  }
  shape.hosts = static_cast<int64_t>(hosts.size());
  return shape;
}

double StepSeconds::Exposed() const {
  double sum = 0.0;
  for (const GroupSeconds& group : groups) {
    sum += group.exposed;
  }
  return sum;
}

double StepSeconds::Total() const {
  return products + attention + rows + optimizer + sharing + Exposed();
}

double SecondsOf(const OpWork& work, const DeviceFigures& figures) {
  const double bandwidth = work.kind == WorkKind::kStream ? figures.stream_bytes : figures.row_bytes;
  return std::max(static_cast<double>(work.bytes) / bandwidth, ArithmeticSeconds(work, figures));
}

StepSeconds TimeStep(const WorkLog& log,
                     int64_t micro_batches,
                     const RankTopology& topology,
                     const DeviceFigures& figures) {
  Clock clock(log, topology, figures);
  ForEachEvent(log, micro_batches, [&](const StepEvent& event) { clock.Visit(event); });
  return clock.Finish();
}

}  // namespace ksa
