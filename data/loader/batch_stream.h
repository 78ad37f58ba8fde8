// Batches of consecutive updates, made ahead by one thread.
#pragma once

#include <cstdint>
#include <memory>

#include "data/loader/batch.h"
#include "data/loader/dataset.h"

namespace ksa {

// Which samples of every update this rank takes: [first, first + count) of the global batch of `global_batch_size`.
// Update u (from 1) holds the run's samples [(u-1)·global_batch_size, u·global_batch_size).
struct UpdateShare {
  int64_t global_batch_size = 1;
  int64_t first = 0;
  int64_t count = 1;
};

class BatchStream {
 public:
  // Starts at `first_update` at no cost that depends on it, and ends after `last_update`. `ahead` batches are made in
  // advance in buffers that are used again: memory does not grow. `dataset` must outlive the stream.
  BatchStream(
      const Dataset& dataset, const UpdateShare& share, int64_t first_update, int64_t last_update, int ahead = 2);
  ~BatchStream();
  BatchStream(const BatchStream&) = delete;
  BatchStream& operator=(const BatchStream&) = delete;

  // The batch of the next update, valid until the next call. Waits when it is not ready; rethrows what making it threw.
  [[nodiscard]] const Batch& Next();

  // Milliseconds that the last Next() waited.
  [[nodiscard]] double last_wait_ms() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ksa
