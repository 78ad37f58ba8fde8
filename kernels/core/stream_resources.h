// StreamResources: what lives beside a device stream for as long as the stream does.
#pragma once

#include <cstdint>
#include <memory>
#include <typeindex>
#include <unordered_map>

#include "kernels/core/arena.h"
#include "kernels/core/device.h"

namespace ksa {

// Handles and plans of the libraries that kernels call, one object of each type, made at its first use; and the
// workspace that these libraries share. A dry stream needs none. Not thread-safe: a stream is fed by one thread.
class StreamResources {
 public:
  class Item {
   public:
    Item() = default;
    Item(const Item&) = delete;
    Item& operator=(const Item&) = delete;
    virtual ~Item() = default;
  };

  // Takes the workspace from `source`, which must outlive this object. Error(kOutOfMemory) when there is none left.
  StreamResources(SlabSource& source, int64_t workspace_bytes);
  StreamResources(const StreamResources&) = delete;
  StreamResources& operator=(const StreamResources&) = delete;
  ~StreamResources();

  // The stream's T, an Item with a constructor T(const Stream&).
  template <typename T>
  [[nodiscard]] T& Get(const Stream& stream) {
    std::unique_ptr<Item>& item = items_[std::type_index(typeid(T))];
    if (item == nullptr) {
      item = std::make_unique<T>(stream);
    }
    return static_cast<T&>(*item);
  }

  // For one call at a time, in the order of the stream.
  [[nodiscard]] void* workspace() const { return workspace_; }

  [[nodiscard]] int64_t workspace_bytes() const { return workspace_bytes_; }

 private:
  SlabSource& source_;
  void* workspace_;
  int64_t workspace_bytes_;
  std::unordered_map<std::type_index, std::unique_ptr<Item>> items_;
};

}  // namespace ksa
