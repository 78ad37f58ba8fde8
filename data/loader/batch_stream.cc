#include "data/loader/batch_stream.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/threads.h"

namespace ksa {

// A ring of `ahead` + 1 buffers: the consumer holds one, the thread fills the others in turn. Buffer of the n-th batch
// (from 0): n mod the number of buffers.
struct BatchStream::Impl {
  const Dataset& dataset;
  UpdateShare share;
  int64_t first_update;
  int64_t total;  // batches in all

  std::vector<Batch> buffers;
  std::mutex mutex;
  std::condition_variable changed;
  int64_t made = 0;   // batches that are ready or were taken
  int64_t taken = 0;  // batches that Next() returned
  bool stopping = false;
  std::exception_ptr error;
  double wait_ms = 0;
  std::thread thread;

  Impl(const Dataset& data, const UpdateShare& update_share, int64_t first, int64_t last, int ahead)
      : dataset(data),
        share(update_share),
        first_update(first),
        total(last - first + 1),
        buffers(static_cast<size_t>(ahead) + 1) {}

  void Run();
  void Make(int64_t number);
};

void BatchStream::Impl::Make(int64_t number) {
  const int64_t first = (first_update + number - 1) * share.global_batch_size + share.first;
  dataset.MakeBatch(first, share.count, buffers[static_cast<size_t>(number) % buffers.size()]);
}

void BatchStream::Impl::Run() {
  for (int64_t number = 0; number < total; ++number) {
    {
      std::unique_lock lock(mutex);
      // The buffer that the consumer holds is that of batch taken - 1.
      changed.wait(lock, [&] { return stopping || number - (taken - 1) < static_cast<int64_t>(buffers.size()); });
      if (stopping) {
        return;
      }
    }
    std::exception_ptr thrown;
    try {
      Make(number);
    } catch (...) {
      thrown = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    error = thrown;
    made = number + 1;
    changed.notify_all();
    if (thrown != nullptr) {
      return;
    }
  }
}

BatchStream::BatchStream(
    const Dataset& dataset, const UpdateShare& share, int64_t first_update, int64_t last_update, int ahead)
    : impl_(std::make_unique<Impl>(dataset, share, first_update, last_update, ahead)) {
  KSA_CHECK(first_update >= 1 && ahead >= 1, "a stream from update {}, {} ahead", first_update, ahead);
  KSA_CHECK(share.first >= 0 && share.count >= 1 && share.first + share.count <= share.global_batch_size,
            "samples [{}, {}) of a global batch of {}",
            share.first,
            share.first + share.count,
            share.global_batch_size);
  impl_->thread = StartThread("reads batches ahead", [impl = impl_.get()] { impl->Run(); });
}

BatchStream::~BatchStream() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    impl_->changed.notify_all();
  }
  impl_->thread.join();
}

const Batch& BatchStream::Next() {
  std::unique_lock lock(impl_->mutex);
  KSA_CHECK(impl_->taken < impl_->total, "the stream ended after {} batches", impl_->total);
  const int64_t number = impl_->taken;
  ++impl_->taken;  // gives the buffer of the batch before back
  impl_->changed.notify_all();
  const auto begin = std::chrono::steady_clock::now();
  impl_->changed.wait(lock, [&] { return impl_->made > number; });
  impl_->wait_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  if (impl_->error != nullptr && impl_->made == number + 1) {
    --impl_->taken;  // asked again, the same error comes again
    std::rethrow_exception(impl_->error);
  }
  return impl_->buffers[static_cast<size_t>(number) % impl_->buffers.size()];
}

double BatchStream::last_wait_ms() const {
  return impl_->wait_ms;
}

}  // namespace ksa
