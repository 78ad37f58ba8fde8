#include "parallel/comm/mpi.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <vector>

#include <fmt/core.h>
#include <mpi.h>

#include "kernels/core/address_space.h"
#include "parallel/comm/launcher.h"
#include "parallel/comm/own_messages.h"
#include "parallel/comm/singleton.h"

namespace ksa {
namespace {

// The largest count handed to one MPI call; larger buffers are sent in pieces.
constexpr int64_t kMaxCount = int64_t{1} << 28;

void Check(int status, const char* call, const char* op = nullptr) {
  if (status == MPI_SUCCESS) {
    return;
  }
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  Fail(ExitCode::kPeerLost,
       "{}{} failed: {}",
       op == nullptr ? "" : fmt::format("{}: ", op),
       call,
       std::string(text, static_cast<size_t>(length)));
}

MPI_Datatype TypeOf(const char* op, DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kF32:
      return MPI_FLOAT;
    default:
      Fail(ExitCode::kInternal, "{}: sums over ranks are for fp32 and fp64, got {}", op, NameOf(dtype));
  }
}

// Calls `piece(first, count)` for [0, total) in pieces that MPI's counts can name.
template <typename Piece>
void ForPieces(int64_t total, const Piece& piece) {
  for (int64_t first = 0; first < total; first += kMaxCount) {
    piece(first, static_cast<int>(std::min(kMaxCount, total - first)));
  }
}

// Whether there is anything to do. Only the host's memory is MPI's.
bool Moves(const char* op, const Stream& stream) {
  KSA_CHECK(stream.dry || stream.device.IsCpu(), "{}: MPI moves tensors of the host only", op);
  return !stream.dry;
}

char* At(const TensorView& x, int64_t byte) {
  return static_cast<char*>(x.data) + byte;
}

class MpiCommunicator final : public Communicator {
 public:
  // Owns `comm`.
  explicit MpiCommunicator(MPI_Comm comm) : comm_(comm) {
    Check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    Check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    Check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }

  // By MPI's rules all ranks free it together; while an error is on its way the others may never come.
  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() == 0) {
      MPI_Comm_free(&comm_);
    }
  }

  [[nodiscard]] int rank() const override { return rank_; }

  [[nodiscard]] int size() const override { return size_; }

  [[nodiscard]] std::unique_ptr<Communicator> Split(int color, int rank, int size) override {
    MPI_Comm comm = MPI_COMM_NULL;
    Check(MPI_Comm_split(comm_, color, rank, &comm), "MPI_Comm_split");
    auto group = std::make_unique<MpiCommunicator>(comm);
    KSA_CHECK(group->rank() == rank && group->size() == size,
              "split of '{}', color {}: rank {} of {} became {} of {}",
              name(),
              color,
              rank,
              size,
              group->rank(),
              group->size());
    group->SetObserver(observer());
    return group;
  }

  // Everything is done at once: this process calls MPI from one thread.
  void Wait(const Stream& /*stream*/) override {}

 protected:
  void DoAllReduceSum(const char* op, const TensorView& x, const Stream& stream) override {
    const MPI_Datatype type = TypeOf(op, x.dtype);
    if (!Moves(op, stream)) {
      return;
    }
    const int64_t width = SizeOf(x.dtype);
    ForPieces(x.size(), [&](int64_t first, int count) {
      Check(MPI_Allreduce(MPI_IN_PLACE, At(x, first * width), count, type, MPI_SUM, comm_), "MPI_Allreduce", op);
    });
  }

  void DoReduceScatterSum(const char* op, const TensorView& x, const Stream& stream) override {
    const MPI_Datatype type = TypeOf(op, x.dtype);
    if (!Moves(op, stream)) {
      return;
    }
    const int64_t width = SizeOf(x.dtype);
    const int64_t part = x.size() / size_;
    // One reduction a destination: every element is summed by one rank in one order, and no count overflows.
    for (int root = 0; root < size_; ++root) {
      ForPieces(part, [&](int64_t first, int count) {
        void* data = At(x, (root * part + first) * width);
        Check(
            MPI_Reduce(root == rank_ ? MPI_IN_PLACE : data, data, count, type, MPI_SUM, root, comm_), "MPI_Reduce", op);
      });
    }
  }

  void DoAllGatherV(const char* op,
                    const TensorView& x,
                    std::span<const int64_t> sizes,
                    const Stream& stream) override {
    if (!Moves(op, stream)) {
      return;
    }
    const int64_t row = x.bytes() / x.rows();
    if (x.bytes() <= kMaxCount) {
      std::vector<int> counts;
      std::vector<int> firsts;
      for (const int64_t rows : sizes) {
        firsts.push_back(firsts.empty() ? 0 : firsts.back() + counts.back());
        counts.push_back(static_cast<int>(rows * row));
      }
      Check(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x.data, counts.data(), firsts.data(), MPI_BYTE, comm_),
            "MPI_Allgatherv",
            op);
      return;
    }
    int64_t begin = 0;
    for (int root = 0; root < size_; ++root) {
      const int64_t bytes = sizes[static_cast<size_t>(root)] * row;
      ForPieces(bytes, [&](int64_t first, int count) {
        Check(MPI_Bcast(At(x, begin + first), count, MPI_BYTE, root, comm_), "MPI_Bcast", op);
      });
      begin += bytes;
    }
  }

  void DoAllToAll(const char* op, const TensorView& from, const TensorView& to, const Stream& stream) override {
    if (!Moves(op, stream)) {
      return;
    }
    const int64_t part = from.size() / size_;
    if (from.bytes() <= kMaxCount) {
      const int bytes = static_cast<int>(part * SizeOf(from.dtype));
      Check(MPI_Alltoall(from.data, bytes, MPI_BYTE, to.data, bytes, MPI_BYTE, comm_), "MPI_Alltoall", op);
      return;
    }
    std::vector<Message> sends;
    std::vector<Message> receives;
    for (int i = 0; i < size_; ++i) {
      const int peer = (rank_ + i) % size_;
      sends.push_back({peer, from.Reshape({from.size()}).Rows(peer * part, part)});
      receives.push_back({peer, to.Reshape({to.size()}).Rows(peer * part, part)});
    }
    DoExchange(op, sends, receives, stream);
  }

  void DoExchange(const char* op,
                  std::span<const Message> sends,
                  std::span<const Message> receives,
                  const Stream& stream) override;

  void DoBroadcast(const char* op, const TensorView& x, int root, const Stream& stream) override {
    if (Moves(op, stream)) {
      ForPieces(x.bytes(), [&](int64_t first, int count) {
        Check(MPI_Bcast(At(x, first), count, MPI_BYTE, root, comm_), "MPI_Bcast", op);
      });
    }
  }

  int64_t DoSum(int64_t x) override {
    Check(MPI_Allreduce(MPI_IN_PLACE, &x, 1, MPI_INT64_T, MPI_SUM, comm_), "MPI_Allreduce");
    return x;
  }

  double DoSum(double x) override {
    Check(MPI_Allreduce(MPI_IN_PLACE, &x, 1, MPI_DOUBLE, MPI_SUM, comm_), "MPI_Allreduce");
    return x;
  }

  int64_t DoMax(int64_t x) override {
    Check(MPI_Allreduce(MPI_IN_PLACE, &x, 1, MPI_INT64_T, MPI_MAX, comm_), "MPI_Allreduce");
    return x;
  }

  void DoBroadcast(std::string& bytes, int root) override {
    int64_t length = static_cast<int64_t>(bytes.size());
    Check(MPI_Bcast(&length, 1, MPI_INT64_T, root, comm_), "MPI_Bcast");
    KSA_CHECK(length <= kMaxCount, "a broadcast of {} bytes is too large", length);
    bytes.resize(static_cast<size_t>(length));
    Check(MPI_Bcast(bytes.data(), static_cast<int>(length), MPI_BYTE, root, comm_), "MPI_Bcast");
  }

  std::vector<std::string> DoGather(const std::string& bytes) override {
    std::vector<std::string> all(static_cast<size_t>(size_));
    for (int root = 0; root < size_; ++root) {
      std::string& part = all[static_cast<size_t>(root)];
      if (root == rank_) {
        part = bytes;
      }
      DoBroadcast(part, root);
    }
    return all;
  }

  void DoBarrier() override { Check(MPI_Barrier(comm_), "MPI_Barrier"); }

 private:
  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
};

// One tag for all: messages of one pair of ranks stay in order.
void MpiCommunicator::DoExchange(const char* op,
                                 std::span<const Message> sends,
                                 std::span<const Message> receives,
                                 const Stream& stream) {
  if (!Moves(op, stream)) {
    return;
  }
  constexpr int kTag = 5;
  // Not by MPI: OpenMPI 4.1 says nothing of a message to oneself that is longer than what is received.
  ForOwnMessages(op, rank_, size_, sends, receives, [](const TensorView& from, const TensorView& to) {
    if (from.size() > 0) {
      std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
    }
  });

  struct Piece {
    int peer;
    int bytes;
  };

  std::vector<MPI_Request> requests;
  std::vector<Piece> expected;
  for (const Message& message : receives) {
    ForPieces(message.peer == rank_ ? 0 : message.data.bytes(), [&](int64_t first, int count) {
      MPI_Request& request = requests.emplace_back();
      expected.push_back({message.peer, count});
      Check(MPI_Irecv(At(message.data, first), count, MPI_BYTE, message.peer, kTag, comm_, &request), "MPI_Irecv", op);
    });
  }
  for (const Message& message : sends) {
    ForPieces(message.peer == rank_ ? 0 : message.data.bytes(), [&](int64_t first, int count) {
      MPI_Request& request = requests.emplace_back();
      Check(MPI_Isend(At(message.data, first), count, MPI_BYTE, message.peer, kTag, comm_, &request), "MPI_Isend", op);
    });
  }
  std::vector<MPI_Status> statuses(requests.size());
  const int result = MPI_Waitall(static_cast<int>(requests.size()), requests.data(), statuses.data());
  for (size_t i = 0; i < expected.size(); ++i) {
    int bytes = 0;
    const bool failed = result == MPI_ERR_IN_STATUS && statuses[i].MPI_ERROR != MPI_SUCCESS;
    const bool truncated = failed && statuses[i].MPI_ERROR == MPI_ERR_TRUNCATE;
    if (!failed) {
      MPI_Get_count(&statuses[i], MPI_BYTE, &bytes);
    }
    if (truncated || (!failed && bytes != expected[i].bytes)) {
      Fail(ExitCode::kInternal,
           "{}: rank {} sent {} bytes where rank {} expects {}",
           op,
           expected[i].peer,
           truncated ? "more" : std::to_string(bytes),
           rank_,
           expected[i].bytes);
    }
  }
  Check(result, "MPI_Waitall", op);
}

// A launcher that started several tasks of which MPI knows nothing gives N runs of one rank, all writing to one folder.
void RefuseLonelyTask(int world) {
  const std::optional<LauncherTasks> tasks = TasksOfLauncher();
  if (world == 1 && tasks.has_value() && !StartedByMpirun()) {
    Fail(ExitCode::kConfig,
         "{}={} but MPI sees one rank: this MPI was not built for that launcher; start the job with mpirun, or with "
         "srun --mpi=pmix where OpenMPI has PMIx",
         tasks->variable,
         tasks->count);
  }
}

// MPI is called by one thread, beside which others run: those of OpenMP, of the loader, of the watchdog.
void RefuseSingleThread(int provided) {
  if (provided < MPI_THREAD_FUNNELED) {
    Fail(
        ExitCode::kConfig,
        "this MPI allows no second thread in the process (level {}, MPI_THREAD_SINGLE; MPI_THREAD_FUNNELED is needed): "
        "use an MPI that was built with threads, or unset the variable that lowers its level",
        provided);
  }
}

}  // namespace

MpiSession::MpiSession() {
  // Open MPI aborts the process, with exit code 1, where it gets none.
  CheckAddressSpace(int64_t{256} << 20, "MPI, with its threads,");
  PrepareSingleton();
  int provided = 0;
  Check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  int world = 1;
  Check(MPI_Comm_size(MPI_COMM_WORLD, &world), "MPI_Comm_size");
  MPI_Comm local = MPI_COMM_NULL;
  Check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local), "MPI_Comm_split_type");
  MPI_Comm_size(local, &local_size_);
  MPI_Comm_rank(local, &local_rank_);
  MPI_Comm_free(&local);
  try {
    RefuseSingleThread(provided);
    RefuseLonelyTask(world);
  } catch (const Error&) {
    MPI_Finalize();
    throw;
  }
}

MpiSession::~MpiSession() {
  MPI_Finalize();
}

std::unique_ptr<Communicator> MpiSession::World() const {
  MPI_Comm comm = MPI_COMM_NULL;
  Check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  return std::make_unique<MpiCommunicator>(comm);
}

std::string MpiSession::HostName() {
  char name[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  Check(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
  return {name, static_cast<size_t>(length)};
}

void MpiSession::Abort(ExitCode code) {
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::abort();  // MPI_Abort does not return; this tells the compiler so
}

}  // namespace ksa
