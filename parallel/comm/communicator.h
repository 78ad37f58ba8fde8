// Collectives among a group of ranks, on host buffers. Every rank of the group makes the same calls in the same order.
// Failures (a lost peer, an MPI error) throw Error(kPeerLost) naming the call.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/core/tensor.h"

namespace ksa {

class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;

  // x [any shape] = sum over ranks of x, fp32 or fp64; the same bits on every rank.
  virtual void AllReduceSum(const TensorView& x) = 0;
  // x [size · n] holds n elements for every rank; afterwards this rank's n elements hold their sum over ranks, the rest
  // of x is undefined.
  virtual void ReduceScatterSum(const TensorView& x) = 0;
  // x [size · n]: every rank's own n elements are copied to all ranks. Any dtype.
  virtual void AllGather(const TensorView& x) = 0;

  // Small host values.
  virtual int64_t Sum(int64_t x) = 0;
  virtual double Sum(double x) = 0;
  virtual int64_t Max(int64_t x) = 0;
  virtual void Broadcast(std::string& bytes, int root) = 0;
  [[nodiscard]] virtual std::vector<std::string> Gather(const std::string& bytes) = 0;  // of all ranks, on all ranks
  virtual void Barrier() = 0;
};

// A group of this rank alone.
[[nodiscard]] std::unique_ptr<Communicator> MakeSelfCommunicator();

}  // namespace ksa
