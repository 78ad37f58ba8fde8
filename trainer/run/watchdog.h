// Watchdog: ends the process when it makes no progress. Nothing in MPI or NCCL does when a rank hangs.
//
// A thread of its own, which calls neither, and asks no file system. Progress is every mark below: a phase that begins,
// a collective that begins or ends, an operation of a stream that counts here. When there was none for longer than the
// phase may take, it writes one line to standard error that says where this rank stands, and leaves with exit code 75,
// within seconds also where that line or what other ranks wrote hangs; the launcher then ends the other ranks. Time in
// which this process was stopped as a whole does not count.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/communicator.h"
#include "trainer/run/rank_states.h"

namespace ksa {

enum class Phase : int {
  kStart,      // MPI
  kSetUp,      // data, model, run folder
  kLoad,       // a checkpoint
  kData,       // waits for a batch
  kGradients,  // forward and backward
  kUpdate,     // gradients summed over ranks, weights updated, loss and norm read back
  kEvaluation,
  kCheckpoint,
  kMeasure,  // a benchmark
  kShutDown,
};

[[nodiscard]] const char* NameOf(Phase phase);

// Seconds without progress, from the environment variable KSA_WATCHDOG_SECONDS, else 600; 0: no watchdog.
// Error(kConfig) when it is no such number.
[[nodiscard]] double WatchdogSeconds();

class Watchdog final : public CommObserver {
 public:
  // Instead of ending the process; gets the report. For tests.
  using OnHang = std::function<void(const std::string& report)>;

  // `seconds` without progress are too many; 0: nothing is watched. Start, set-up, load, checkpoint and shutdown may
  // take three times as long.
  explicit Watchdog(double seconds, OnHang on_hang = {});
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() override;

  // Who this is, in reports.
  void SetRank(int rank, const std::string& host);

  // Where ranks of a run tell each other that they stand still; `hosts` of all ranks. After SetRank.
  void SetStates(const std::string& folder, const std::vector<std::string>& hosts);

  // The run's log: the report is added to it as well, once standard error has it.
  void SetLog(const std::string& path);

  // Called from a thread of its own, often; throws when something was lost that this process would wait for. It may
  // outlive the watchdog.
  void SetPoll(std::function<void()> poll);

  // Reports say what a GPU was given last when the host waits for it.
  void SetDevice(bool gpu);

  // For Stream::operations: a micro-batch of a large model on a CPU may take longer than the limit.
  [[nodiscard]] std::atomic<int64_t>* operations() { return &operations_; }

  void Enter(Phase phase);
  void BeginUpdate(int64_t update);  // from 1; enters kData

  void Begin(const char* group, CollectiveKind kind, const char* op, int64_t bytes) override;
  void End() override;

 private:
  struct Call {
    std::string group;
    CollectiveKind kind = CollectiveKind::kHost;
    std::string op;
    int64_t bytes = 0;
  };

  class Poll;

  // How things stand, as the thread sees them once a tick.
  struct Sight {
    bool stopping = false;
    int64_t marks = 0;
    double limit = 0.0;
    std::string where;
    std::shared_ptr<RankStates> states;
    std::shared_ptr<Poll> poll;
    std::string log;
  };

  static constexpr size_t kCallsKept = 10;

  void Watch();
  [[nodiscard]] Sight Look(double seconds);
  void Report(const std::string& what, const Sight& sight) const;
  [[nodiscard]] static std::string Describe(const Call& call);
  [[nodiscard]] std::string Where() const;
  [[nodiscard]] std::string LastCalls() const;

  const double seconds_;
  const OnHang on_hang_;
  std::atomic<int64_t> operations_{0};
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable stop_;
  bool stopping_ = false;
  int64_t marks_ = 0;  // progress so far
  int rank_ = 0;
  std::string who_ = "this rank";
  bool gpu_ = false;
  Phase phase_ = Phase::kStart;
  int64_t update_ = 0;
  bool in_call_ = false;
  int64_t calls_ = 0;                  // begun so far
  std::array<Call, kCallsKept> last_;  // call number n is at n modulo kCallsKept
  std::shared_ptr<Poll> poll_;
  std::shared_ptr<RankStates> states_;
  std::string log_;
  std::thread thread_;  // last: uses all of it
};

}  // namespace ksa
