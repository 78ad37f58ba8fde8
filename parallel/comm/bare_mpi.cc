#include <mpi.h>

#include "kernels/core/error.h"
#include "parallel/comm/bare.h"

namespace ksa {
namespace {

void Check(int status) {
  KSA_CHECK(status == MPI_SUCCESS, "MPI reports error {}", status);
}

int Count(int64_t elements) {
  KSA_CHECK(elements <= INT32_MAX, "{} elements are too many for one call of MPI", elements);
  return static_cast<int>(elements);
}

class BareMpi final : public BareCollectives {
 public:
  BareMpi() {
    Check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_));
    Check(MPI_Comm_size(MPI_COMM_WORLD, &size_));
  }

  void AllReduce(const TensorView& x, const Stream& /*stream*/) override {
    Check(MPI_Allreduce(MPI_IN_PLACE, x.data, Count(x.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD));
  }

  void ReduceScatter(const TensorView& x, const Stream& /*stream*/) override {
    // In place MPI leaves the result at the front.
    const int part = Count(x.size() / size_);
    Check(MPI_Reduce_scatter_block(MPI_IN_PLACE, x.data, part, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD));
  }

  void AllGather(const TensorView& x, const Stream& /*stream*/) override {
    const int part = Count(x.size() / size_);
    Check(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x.data, part, MPI_FLOAT, MPI_COMM_WORLD));
  }

  void AllToAll(const TensorView& from, const TensorView& to, const Stream& /*stream*/) override {
    const int part = Count(from.size() / size_);
    Check(MPI_Alltoall(from.data, part, MPI_FLOAT, to.data, part, MPI_FLOAT, MPI_COMM_WORLD));
  }

  void Shift(const TensorView& from, const TensorView& to, const Stream& /*stream*/) override {
    const int next = (rank_ + 1) % size_;
    const int before = (rank_ + size_ - 1) % size_;
    const int count = Count(from.size());
    Check(MPI_Sendrecv(
        from.data, count, MPI_FLOAT, next, 1, to.data, count, MPI_FLOAT, before, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
  }

 private:
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<BareCollectives> MakeBareMpi() {
  return std::make_unique<BareMpi>();
}

}  // namespace ksa
