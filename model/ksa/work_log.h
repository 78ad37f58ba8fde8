// What one rank did, operation by operation and collective by collective, in its order: written by an imaginary run
// (docs/design/plan.md), read by counts and by the timeline.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/core/op.h"
#include "parallel/comm/communicator.h"

namespace ksa {

// The groups of a mesh that move tensors.
enum class TrafficGroup : int { kState, kContext, kTensor, kReplicas };
inline constexpr int kTrafficGroups = 4;

[[nodiscard]] const char* NameOf(TrafficGroup group);  // as the communicator is called

struct StepEvent {
  enum class Type : int {
    kWork,  // an operation
    kMove,  // a collective of `group` begins
    kWait,  // what follows needs the results of all calls of `group` so far
    kMark,
  };

  Type type = Type::kWork;
  const char* op = "";
  OpWork work;  // kWork; of what runs again for its backward nothing is useful
  TrafficGroup group = TrafficGroup::kState;
  CollectiveKind kind = CollectiveKind::kAllReduce;
  int64_t sent = 0;
  int64_t received = 0;
  // An exchange's parts: WorkLog::parts [first_part, first_part + parts).
  size_t first_part = 0;
  size_t parts = 0;
  StepMark mark = StepMark::kMicroBatch;
};

// Bytes of an exchange with one rank of the group.
struct ExchangePart {
  int peer = 0;
  int64_t sent = 0;
  int64_t received = 0;
};

// Hears of operations as the stream's tracer and of collectives as the groups' observer. What an operation says counts
// for all that runs inside it.
class WorkLog final : public Tracer, public CommObserver {
 public:
  WorkLog() = default;

  void Begin(const char* /*op*/, const Stream& /*stream*/) override { ++depth_; }

  void End(const Stream& /*stream*/) noexcept override { --depth_; }

  [[nodiscard]] bool counts() const override { return true; }

  void Count(const char* op, const OpWork& work) override;
  void Mark(StepMark mark) override;

  void Begin(const char* /*group*/, CollectiveKind /*kind*/, const char* /*op*/, int64_t /*bytes*/) override {}

  void End() override {}

  void Moves(const Communicator& group, const CommTransfer& transfer) override;
  void Waits(const Communicator& group) override;

  // What follows is not written down.
  void Stop() { stopped_ = true; }

  [[nodiscard]] const std::vector<StepEvent>& events() const { return events_; }

  [[nodiscard]] const std::vector<ExchangePart>& parts() const { return parts_; }

 private:
  std::vector<StepEvent> events_;
  std::vector<ExchangePart> parts_;
  int depth_ = 0;
  bool replay_ = false;
  bool stopped_ = false;
};

// A log divided at its marks. The micro-batches between the first and the last are alike, so that a log of three stands
// for one of any number.
struct StepParts {
  // Half-open ranges of events, in their order. A part that is not there is empty.
  struct Part {
    size_t begin = 0;
    size_t end = 0;
  };

  Part before;
  std::vector<Part> micro_batches;
  Part update;
};

[[nodiscard]] StepParts PartsOf(const WorkLog& log);

// Calls visit(event) for every event of an update of `micro_batches` micro-batches, at least one, of which `log` holds
// all, or three.
template <typename Visit>
void ForEachEvent(const WorkLog& log, int64_t micro_batches, const Visit& visit) {
  const StepParts parts = PartsOf(log);
  const auto run = [&](const StepParts::Part& part) {
    for (size_t i = part.begin; i < part.end; ++i) {
      visit(log.events()[i]);
    }
  };
  run(parts.before);
  const auto there = static_cast<int64_t>(parts.micro_batches.size());
  for (int64_t i = 0; i < there; ++i) {
    const int64_t times = i == 1 && there == 3 ? micro_batches - 2 : 1;
    for (int64_t n = 0; n < times; ++n) {
      run(parts.micro_batches[static_cast<size_t>(i)]);
    }
  }
  run(parts.update);
}

// Sums over an update.
struct StepCounts {
  int64_t useful = 0;
  int64_t done = 0;
  int64_t product_done = 0;  // of these in matrix products
  int64_t bytes = 0;         // of memory
  int64_t stream_bytes = 0;  // of these by the optimizer
  std::array<CommCounts, kTrafficGroups> traffic{};

  [[nodiscard]] const CommCounts& Of(TrafficGroup group) const { return traffic[static_cast<size_t>(group)]; }
};

[[nodiscard]] StepCounts CountStep(const WorkLog& log, int64_t micro_batches);

}  // namespace ksa
