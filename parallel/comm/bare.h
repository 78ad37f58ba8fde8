// The libraries' own collectives without anything of ours around them, to measure what ours adds.
#pragma once

#include <memory>

#include "kernels/core/device.h"
#include "parallel/comm/communicator.h"

namespace ksa {

// Tensors are fp32, flat, with n elements for every rank. Calls are queued on `stream`, and done at once on the CPU.
class BareCollectives {
 public:
  BareCollectives() = default;
  BareCollectives(const BareCollectives&) = delete;
  BareCollectives& operator=(const BareCollectives&) = delete;
  virtual ~BareCollectives() = default;

  virtual void AllReduce(const TensorView& x, const Stream& stream) = 0;
  virtual void ReduceScatter(const TensorView& x, const Stream& stream) = 0;  // to this rank's part of x
  virtual void AllGather(const TensorView& x, const Stream& stream) = 0;      // from this rank's part of x
  virtual void AllToAll(const TensorView& from, const TensorView& to, const Stream& stream) = 0;
  // All of `from` to the next rank, all of `to` from the one before.
  virtual void Shift(const TensorView& from, const TensorView& to, const Stream& stream) = 0;
};

// Of MPI's world; while the session lives.
[[nodiscard]] std::unique_ptr<BareCollectives> MakeBareMpi();

// Of the ranks of `host`, each on its GPU, by calls that wait until they are queued; with at least two ranks.
[[nodiscard]] std::unique_ptr<BareCollectives> MakeBareNccl(Communicator& host, const Device& device);

}  // namespace ksa
