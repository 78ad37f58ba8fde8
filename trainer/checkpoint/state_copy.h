// A copy in host memory of what a rank writes into a checkpoint, so that training goes on while it is written.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/gpu.h"
#include "kernels/core/side_copies.h"
#include "model/autograd/parameter.h"
#include "trainer/checkpoint/save_job.h"

namespace ksa {

class StateCopy {
 public:
  // Bytes of the copy of this rank.
  [[nodiscard]] static int64_t BytesOf(const ParameterStore& store);

  // Takes the memory, pinned where `stream` computes on a GPU. The store and what the stream belongs to must
  // outlive it. Error(kOutOfMemory) where the host does not give it.
  StateCopy(const ParameterStore& store, const Stream& stream);

  // Copies weights and moments. On the CPU they are there when the call returns; on a GPU the copies run beside what
  // the stream does next, which must not change the state before HoldBack.
  void Take();

  // What is queued on the stream from now on may change the state.
  void HoldBack() { copies_.HoldBack(); }

  // Until the copy is there; from any thread.
  void Wait() const { copies_.Wait(); }

  // Of the copy, which must outlive the function.
  [[nodiscard]] StateRows Rows() const;

 private:
  [[nodiscard]] TensorView At(StateKind kind, const FlatRange& range) const;

  const ParameterStore& store_;
  std::vector<int64_t> begins_;  // of each of store.owned(), a kind after the other, in elements
  PinnedMemory memory_;
  SideCopies copies_;
};

}  // namespace ksa
