// XXH3-64 of bytes that come in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <xxhash.h>

namespace ksa {

class StreamedHash {
 public:
  StreamedHash() : state_(XXH3_createState()) { Reset(); }

  void Reset() { static_cast<void>(XXH3_64bits_reset(state_.get())); }

  void Update(const void* data, size_t bytes) { static_cast<void>(XXH3_64bits_update(state_.get(), data, bytes)); }

  [[nodiscard]] uint64_t Digest() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { static_cast<void>(XXH3_freeState(state)); }
  };

  std::unique_ptr<XXH3_state_t, Free> state_;
};

}  // namespace ksa
