// `ksa bench comm`: our collectives beside direct calls of the library below them.
#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/arena.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "parallel/comm/bare.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/nccl.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/bench_report.h"
#include "trainer/commands/device_option.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/ranks_of_command.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  mpirun -np 2 ksa bench comm
  mpirun -np 4 --bind-to none ksa bench comm --device cpu --mib 1 16 --json comm.json

Bare calls are NCCL's on a GPU (rank r of a host on its GPU r) and MPI's on the CPU. MiB is the size of the whole buffer:
what is summed, gathered, or sent to all ranks together; of an exchange, what goes to the next rank. GB/s is bus bandwidth:
bytes over time, times 2(P-1)/P of an all-reduce, (P-1)/P of a reduce-scatter, an all-gather and an all-to-all, and 1 of an
exchange. Times are a call's, on the slowest rank, medians of --repeat measurements in which ours and the bare ones take
turns, each of --calls calls in a row. Host microseconds are what a call takes until it is queued.)";

struct CommOptions {
  std::vector<int> mebibytes = {1, 16, 64, 256};
  int repeat = 7;
  int calls = 0;
  DeviceOption device;
  std::optional<std::string> json;
};

// Where this rank computes, and its memory.
class Place {
 public:
  Place(const DeviceOption& option, const MpiSession& mpi) {
    if (option.Options(DType::kF32).device == DeviceKind::kCpu) {
      memory_ = std::make_unique<HostAllocator>();
      return;
    }
    const int ordinal = mpi.local_rank();
    if (ordinal >= GpuCount()) {
      Fail(ExitCode::kConfig, "{} ranks on a host with {} GPUs: start one rank a GPU", mpi.local_size(), GpuCount());
    }
    queue_ = std::make_unique<GpuStream>(ordinal, 1);
    stream_ = queue_->stream();
    slabs_ = std::make_unique<GpuSlabs>(ordinal);
    memory_ = std::make_unique<ArenaAllocator>(*slabs_);
  }

  [[nodiscard]] bool gpu() const { return !stream_.device.IsCpu(); }

  [[nodiscard]] const Stream& stream() const { return stream_; }

  [[nodiscard]] Allocator& memory() const { return *memory_; }

  [[nodiscard]] std::string name() const { return gpu() ? QueryGpu(stream_.device.ordinal).name : CpuName(); }

 private:
  Stream stream_;
  std::unique_ptr<GpuStream> queue_;
  std::unique_ptr<GpuSlabs> slabs_;
  std::unique_ptr<Allocator> memory_;
};

// Of one measurement, or medians of several: milliseconds and host microseconds of a call.
struct CallTime {
  double milliseconds = 0.0;
  double host_microseconds = 0.0;
};

struct Case {
  const char* name;
  double bus;  // bytes on the bus over bytes of the buffer
  std::function<void()> ours;
  std::function<void()> bare;
};

class CommBench {
 public:
  CommBench(const CommOptions& options, Communicator& world, Place& place)
      : options_(options),
        world_(world),
        place_(place),
        calls_(options.calls > 0 ? options.calls
               : place.gpu()     ? 20
                                 : 1) {
    std::unique_ptr<Communicator> group = world.Split(0, world.rank(), world.size());
    const Device& device = place.stream().device;
    bare_ = place.gpu() ? MakeBareNccl(*group, device) : MakeBareMpi();
    group_ = place.gpu() ? MakeNcclCommunicator(std::move(group), device) : std::move(group);
  }

  void Run(int mebibytes, Table& table) {
    // As many for every rank.
    const int64_t elements = (int64_t{mebibytes} << 18) / world_.size() * world_.size();
    const Tensor x = Tensor::Empty({elements}, DType::kF32, place_.memory());
    const Tensor y = Tensor::Empty({elements}, DType::kF32, place_.memory());
    const Stream& stream = place_.stream();
    Zero(x, stream);
    Zero(y, stream);
    const int next = (world_.rank() + 1) % world_.size();
    const int before = (world_.rank() + world_.size() - 1) % world_.size();
    const std::vector<Message> sends = {{next, x}};
    const std::vector<Message> receives = {{before, y}};
    const double part = static_cast<double>(world_.size() - 1) / world_.size();
    const Case cases[] = {
        {"all-reduce",
         2.0 * part,
         [&] { group_->AllReduceSum("bench.all_reduce", x, stream); },
         [&] { bare_->AllReduce(x, stream); }},
        {"reduce-scatter",
         part,
         [&] { group_->ReduceScatterSum("bench.reduce_scatter", x, stream); },
         [&] { bare_->ReduceScatter(x, stream); }},
        {"all-gather",
         part,
         [&] { group_->AllGather("bench.all_gather", x, stream); },
         [&] { bare_->AllGather(x, stream); }},
        {"all-to-all",
         part,
         [&] { group_->AllToAll("bench.all_to_all", x, y, stream); },
         [&] { bare_->AllToAll(x, y, stream); }},
        {"exchange",
         1.0,
         [&] { group_->Exchange("bench.exchange", sends, receives, stream); },
         [&] { bare_->Shift(x, y, stream); }},
    };
    for (const Case& one : cases) {
      AddRow(one, mebibytes, x.view().bytes(), table);
    }
  }

  // The smallest share of the bare bandwidth at 64 MiB and more; none when nothing is as large.
  [[nodiscard]] const std::optional<double>& worst() const { return worst_; }

 private:
  [[nodiscard]] CallTime Time(const std::function<void()>& call) {
    using Clock = std::chrono::steady_clock;
    const Stream& stream = place_.stream();
    Event start;
    Event end;
    world_.Barrier();
    const Clock::time_point begin = Clock::now();
    start.Record(stream);
    for (int i = 0; i < calls_; ++i) {
      call();
    }
    end.Record(stream);
    const double host = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
    end.Wait();
    const double milliseconds = place_.gpu() ? end.MillisecondsSince(start) : host * 1e-3;
    // The slowest rank's, to a nanosecond.
    const int64_t slowest = world_.Max(static_cast<int64_t>(milliseconds * 1e6));
    return {static_cast<double>(slowest) * 1e-6 / calls_, host / calls_};
  }

  void AddRow(const Case& one, int mebibytes, int64_t bytes, Table& table) {
    std::vector<double> times[2];
    std::vector<double> hosts[2];
    for (int i = -1; i < options_.repeat; ++i) {
      for (const bool bare : {false, true}) {
        const CallTime time = Time(bare ? one.bare : one.ours);
        if (i >= 0) {  // the first is to warm up
          times[bare ? 1 : 0].push_back(time.milliseconds);
          hosts[bare ? 1 : 0].push_back(time.host_microseconds);
        }
      }
    }
    const double ours = Median(times[0]);
    const double bare = Median(times[1]);
    const double gigabytes = one.bus * static_cast<double>(bytes) * 1e-9;
    table.AddRow({std::string(one.name),
                  int64_t{mebibytes},
                  ours,
                  bare,
                  gigabytes / (ours * 1e-3),
                  gigabytes / (bare * 1e-3),
                  bare / ours,
                  Median(hosts[0]),
                  Median(hosts[1])});
    if (mebibytes >= 64) {
      worst_ = std::min(worst_.value_or(bare / ours), bare / ours);
    }
  }

  const CommOptions& options_;
  Communicator& world_;
  Place& place_;
  int calls_;
  std::unique_ptr<BareCollectives> bare_;
  std::unique_ptr<Communicator> group_;
  std::optional<double> worst_;
};

void RunBench(const CommOptions& options, const RankOfCommand& rank) {
  Communicator& world = rank.world;
  if (world.size() < 2) {
    Fail(ExitCode::kUsage, "one rank has nobody to talk to: mpirun -np 2 ksa bench comm");
  }
  Place place(options.device, rank.mpi);
  rank.watchdog.SetDevice(place.gpu());
  CommBench bench(options, world, place);
  BenchReport report = {"comm",
                        fmt::format("{} ranks on {}", world.size(), place.name()),
                        place.stream().threads,
                        Table({{"call", "call", 0},
                               {"mebibytes", "MiB", 0},
                               {"milliseconds", "ms", 4},
                               {"bare_milliseconds", "bare ms", 4},
                               {"gigabytes_per_second", "GB/s", 2},
                               {"bare_gigabytes_per_second", "bare GB/s", 2},
                               {"share_of_bare", "ours/bare", 3},
                               {"host_microseconds", "host us", 1},
                               {"bare_host_microseconds", "bare host us", 1}}),
                        {}};
  for (const int mebibytes : options.mebibytes) {
    bench.Run(mebibytes, report.table);
  }
  if (bench.worst().has_value()) {
    report.findings.push_back(
        {"worst_share_of_bare", "least share of the bare bandwidth at 64 MiB and more: {:.3f}", *bench.worst()});
  }
  if (world.rank() == 0) {
    Publish(report, options.json);
  }
}

}  // namespace

void AddBenchCommCommand(CLI::App& bench) {
  const auto options = std::make_shared<CommOptions>();
  CLI::App* command = bench.add_subcommand("comm", "Collectives among ranks, ours beside bare calls of NCCL or MPI");
  command->add_option("--mib", options->mebibytes, "sizes of buffers in MiB")
      ->check(WholeNumber(1, 4096))
      ->default_str("1 16 64 256");
  command->add_option("--repeat", options->repeat, "measurements to take the median of")
      ->check(WholeNumber(1, 1000))
      ->capture_default_str();
  command->add_option("--calls", options->calls, "calls of a measurement")
      ->check(WholeNumber(1, 10000))
      ->default_str("20 on a GPU, 1 on the CPU");
  AddDeviceOption(*command, options->device);
  command->add_option("--json", options->json, "also write the results to this file")->type_name("FILE");
  command->footer(kExamples);
  command->callback([options] { RunOnRanks([&](const RankOfCommand& rank) { RunBench(*options, rank); }); });
}

}  // namespace ksa
