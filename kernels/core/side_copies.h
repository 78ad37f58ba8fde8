// Copies from where a stream computes to host memory, beside what the stream does next.
#pragma once

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// On the CPU and on a dry stream there is nothing beside: a copy is done when the call returns.
class SideCopies {
 public:
  // What `stream` belongs to must outlive it.
  explicit SideCopies(const Stream& stream);
  SideCopies(const SideCopies&) = delete;
  SideCopies& operator=(const SideCopies&) = delete;
  ~SideCopies();

  // What is copied next is what the stream has made of it so far.
  void Begin();
  // Both have one type and as many elements; `to` is pinned memory where `from` lies on a GPU. Queued.
  void Copy(const TensorView& from, const TensorView& to);
  // After the last copy.
  void End();
  // What is queued on the stream from now on begins when the copies are done. Waits for nothing itself.
  void HoldBack() const;
  // Until the copies are done; from any thread.
  void Wait() const;

 private:
  [[nodiscard]] bool idle() const { return stream_.device.IsCpu() || stream_.dry; }

  Stream stream_;
  Stream side_;            // its handle is another one
  void* begin_ = nullptr;  // events of a GPU
  void* done_ = nullptr;
};

}  // namespace ksa
