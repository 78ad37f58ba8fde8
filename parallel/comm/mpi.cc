#include "parallel/comm/mpi.h"

#include <algorithm>
#include <cstdlib>

#include <mpi.h>

namespace ksa {
namespace {

// The largest count handed to one MPI call; larger buffers are sent in pieces.
constexpr int64_t kMaxCount = int64_t{1} << 28;

void Check(int status, const char* call) {
  if (status == MPI_SUCCESS) {
    return;
  }
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  Fail(ExitCode::kPeerLost, "{} failed: {}", call, std::string(text, static_cast<size_t>(length)));
}

MPI_Datatype TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kF32:
      return MPI_FLOAT;
    default:
      Fail(ExitCode::kInternal, "sums over ranks are for fp32 and fp64, got {}", NameOf(dtype));
  }
}

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(MPI_Comm parent) {
    Check(MPI_Comm_dup(parent, &comm_), "MPI_Comm_dup");
    Check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    Check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    Check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }

  ~MpiCommunicator() override { MPI_Comm_free(&comm_); }

  [[nodiscard]] int rank() const override { return rank_; }

  [[nodiscard]] int size() const override { return size_; }

  void AllReduceSum(const TensorView& x) override {
    const int64_t width = SizeOf(x.dtype);
    for (int64_t first = 0; first < x.size(); first += kMaxCount) {
      const int count = static_cast<int>(std::min(kMaxCount, x.size() - first));
      Check(MPI_Allreduce(MPI_IN_PLACE, At(x, first * width), count, TypeOf(x.dtype), MPI_SUM, comm_), "MPI_Allreduce");
    }
  }

  void ReduceScatterSum(const TensorView& x) override {
    const int64_t width = SizeOf(x.dtype);
    const int64_t part = PartSize(x);
    // One reduction a destination: every element is summed by one rank in one order, and no count overflows.
    for (int root = 0; root < size_; ++root) {
      for (int64_t first = 0; first < part; first += kMaxCount) {
        const int count = static_cast<int>(std::min(kMaxCount, part - first));
        void* data = At(x, (root * part + first) * width);
        Check(MPI_Reduce(root == rank_ ? MPI_IN_PLACE : data, data, count, TypeOf(x.dtype), MPI_SUM, root, comm_),
              "MPI_Reduce");
      }
    }
  }

  void AllGather(const TensorView& x) override {
    const int64_t part = PartSize(x) * SizeOf(x.dtype);
    for (int root = 0; root < size_; ++root) {
      for (int64_t first = 0; first < part; first += kMaxCount) {
        const int count = static_cast<int>(std::min(kMaxCount, part - first));
        Check(MPI_Bcast(At(x, root * part + first), count, MPI_BYTE, root, comm_), "MPI_Bcast");
      }
    }
  }

  int64_t Sum(int64_t x) override {
    Check(MPI_Allreduce(MPI_IN_PLACE, &x, 1, MPI_INT64_T, MPI_SUM, comm_), "MPI_Allreduce");
    return x;
  }

  double Sum(double x) override {
    Check(MPI_Allreduce(MPI_IN_PLACE, &x, 1, MPI_DOUBLE, MPI_SUM, comm_), "MPI_Allreduce");
    return x;
  }

  int64_t Max(int64_t x) override {
    Check(MPI_Allreduce(MPI_IN_PLACE, &x, 1, MPI_INT64_T, MPI_MAX, comm_), "MPI_Allreduce");
    return x;
  }

  void Broadcast(std::string& bytes, int root) override {
    int64_t length = static_cast<int64_t>(bytes.size());
    Check(MPI_Bcast(&length, 1, MPI_INT64_T, root, comm_), "MPI_Bcast");
    KSA_CHECK(length <= kMaxCount, "a broadcast of {} bytes is too large", length);
    bytes.resize(static_cast<size_t>(length));
    Check(MPI_Bcast(bytes.data(), static_cast<int>(length), MPI_BYTE, root, comm_), "MPI_Bcast");
  }

  [[nodiscard]] std::vector<std::string> Gather(const std::string& bytes) override {
    std::vector<std::string> all(static_cast<size_t>(size_));
    for (int root = 0; root < size_; ++root) {
      std::string& part = all[static_cast<size_t>(root)];
      if (root == rank_) {
        part = bytes;
      }
      Broadcast(part, root);
    }
    return all;
  }

  void Barrier() override { Check(MPI_Barrier(comm_), "MPI_Barrier"); }

 private:
  static void* At(const TensorView& x, int64_t byte) { return static_cast<char*>(x.data) + byte; }

  [[nodiscard]] int64_t PartSize(const TensorView& x) const {
    KSA_CHECK(x.size() % size_ == 0, "{} elements do not divide among {} ranks", x.size(), size_);
    return x.size() / size_;
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
};

// A launcher that started several tasks of which MPI knows nothing gives N runs of one rank, all writing to one folder.
void RefuseLonelyTask(int world) {
  for (const char* name : {"SLURM_NTASKS", "PMI_SIZE"}) {
    const char* value = std::getenv(name);
    const int tasks = value == nullptr ? 1 : std::atoi(value);
    if (world == 1 && tasks > 1) {
      Fail(ExitCode::kConfig,
           "{}={} but MPI sees one rank: this MPI was not built for that launcher; start the job with mpirun, or with "
           "srun --mpi=pmix where OpenMPI has PMIx",
           name,
           tasks);
    }
  }
}

}  // namespace

MpiSession::MpiSession() {
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
  return std::make_unique<MpiCommunicator>(MPI_COMM_WORLD);
}

void MpiSession::Abort(ExitCode code) {
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::abort();  // MPI_Abort does not return; this tells the compiler so
}

}  // namespace ksa
