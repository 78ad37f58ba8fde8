// Reads items one after another, works on several at once, consumes them in the order in which they were read.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/core/threads.h"

namespace ksa {

// `Slot` holds an item's input and output; slots are used again, so that memory stays bounded by their number.
template <typename Slot>
class OrderedPipeline {
 public:
  struct Stages {
    std::function<bool(Slot&)> read;     // fills a slot, false at the end; one call at a time, in order
    std::function<void(Slot&)> work;     // many at once
    std::function<void(Slot&)> consume;  // on the calling thread, in order
  };

  // Runs to the end, or to the first error in the order of the items, which it throws.
  static void Run(int threads, const Stages& stages) {
    OrderedPipeline pipeline(threads, stages);
    pipeline.Consume();
  }

 private:
  OrderedPipeline(int threads, const Stages& stages)
      : stages_(stages), slots_(static_cast<size_t>(2 * threads + 2)), done_(slots_.size()), errors_(slots_.size()) {
    try {
      for (int i = 0; i < threads; ++i) {
        threads_.push_back(StartThread("reads and encodes", [this] { Work(); }));
      }
    } catch (...) {
      Stop();
      throw;
    }
  }

  ~OrderedPipeline() { Stop(); }

  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopping_ || ended_ || read_ - consumed_ < slots_.size(); });
      if (stopping_ || ended_) {
        return;
      }
      const size_t slot = read_ % slots_.size();
      std::exception_ptr error;
      try {
        if (!stages_.read(slots_[slot])) {
          ended_ = true;
          changed_.notify_all();
          return;
        }
        ++read_;
        lock.unlock();
        stages_.work(slots_[slot]);
      } catch (...) {
        error = std::current_exception();
      }
      if (lock.owns_lock()) {  // reading failed: this item is the last
        ++read_;
        ended_ = true;
      } else {
        lock.lock();
      }
      errors_[slot] = error;
      done_[slot] = 1;
      changed_.notify_all();
    }
  }

  void Consume() {
    while (true) {
      const size_t slot = consumed_ % slots_.size();
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return done_[slot] != 0 || (ended_ && consumed_ == read_); });
        if (done_[slot] == 0) {
          return;
        }
      }
      if (errors_[slot] != nullptr) {
        std::rethrow_exception(errors_[slot]);
      }
      stages_.consume(slots_[slot]);
      const std::lock_guard lock(mutex_);
      done_[slot] = 0;
      ++consumed_;
      changed_.notify_all();
    }
  }

  const Stages& stages_;
  std::vector<Slot> slots_;
  std::vector<char> done_;
  std::vector<std::exception_ptr> errors_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t read_ = 0;      // items read so far
  size_t consumed_ = 0;  // items consumed so far
  bool ended_ = false;
  bool stopping_ = false;
};

}  // namespace ksa
