#include "model/ksa/work_log.h"

#include <string_view>

#include "kernels/core/error.h"

namespace ksa {
namespace {

TrafficGroup GroupOf(const Communicator& communicator) {
  for (int i = 0; i < kTrafficGroups; ++i) {
    const auto group = static_cast<TrafficGroup>(i);
    if (communicator.name() == NameOf(group)) {
      return group;
    }
  }
  Fail(ExitCode::kInternal,
       "a group called {} moves tensors; the log of a step knows no such group",
       communicator.name());
}

}  // namespace

const char* NameOf(TrafficGroup group) {
  switch (group) {
    case TrafficGroup::kState:
      return "data x context";
    case TrafficGroup::kContext:
      return "context";
    case TrafficGroup::kTensor:
      return "tensor";
    case TrafficGroup::kReplicas:
      return "replicas";
  }
  return "unknown";
}

void WorkLog::Count(const char* op, const OpWork& work) {
  if (depth_ > 0 || stopped_) {
    return;
  }
  events_.push_back({.type = StepEvent::Type::kWork, .op = op, .work = work});
  if (replay_) {
    events_.back().work.useful = 0;
  }
}

void WorkLog::Mark(StepMark mark) {
  if (mark == StepMark::kReplay || mark == StepMark::kReplayed) {
    replay_ = mark == StepMark::kReplay;
    return;
  }
  if (stopped_) {
    return;
  }
  events_.push_back({.type = StepEvent::Type::kMark, .mark = mark});
}

void WorkLog::Moves(const Communicator& group, const CommTransfer& transfer) {
  if (stopped_) {
    return;
  }
  StepEvent event = {.type = StepEvent::Type::kMove,
                     .op = transfer.op,
                     .group = GroupOf(group),
                     .kind = transfer.kind,
                     .sent = transfer.sent,
                     .received = transfer.received,
                     .first_part = parts_.size()};
  constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> part_of_peer(transfer.kind == CollectiveKind::kExchange ? static_cast<size_t>(group.size()) : 0,
                                   kNone);
  const auto part_of = [&](int peer) -> ExchangePart& {
    size_t& part = part_of_peer[static_cast<size_t>(peer)];
    if (part == kNone) {
      part = parts_.size();
      parts_.push_back({.peer = peer});
    }
    return parts_[part];
  };
  for (const Message& message : transfer.sends) {
    if (message.peer != group.rank()) {
      part_of(message.peer).sent += message.data.bytes();
    }
  }
  for (const Message& message : transfer.receives) {
    if (message.peer != group.rank()) {
      part_of(message.peer).received += message.data.bytes();
    }
  }
  event.parts = parts_.size() - event.first_part;
  events_.push_back(event);
}

void WorkLog::Waits(const Communicator& group) {
  if (!stopped_) {
    events_.push_back({.type = StepEvent::Type::kWait, .group = GroupOf(group)});
  }
}

StepParts PartsOf(const WorkLog& log) {
  StepParts parts;
  StepParts::Part* open = &parts.before;
  for (size_t i = 0; i < log.events().size(); ++i) {
    const StepEvent& event = log.events()[i];
    if (event.type == StepEvent::Type::kMark) {
      open = event.mark == StepMark::kMicroBatch ? &parts.micro_batches.emplace_back() : &parts.update;
      open->begin = i;
    }
    open->end = i + 1;
  }
  return parts;
}

StepCounts CountStep(const WorkLog& log, int64_t micro_batches) {
  StepCounts counts;
  ForEachEvent(log, micro_batches, [&](const StepEvent& event) {
    const OpWork& work = event.work;
    counts.useful += work.useful;
    counts.done += work.done;
    counts.product_done += work.kind == WorkKind::kProduct ? work.done : 0;
    counts.bytes += work.bytes;
    counts.stream_bytes += work.kind == WorkKind::kStream ? work.bytes : 0;
    if (event.type == StepEvent::Type::kMove) {
      CommCount& count = counts.traffic[static_cast<size_t>(event.group)][static_cast<size_t>(event.kind)];
      ++count.calls;
      count.sent += event.sent;
      count.received += event.received;
    }
  });
  return counts;
}

}  // namespace ksa
