// LruCache: values that are dear to make and cheap to keep, at most so many; the one unused for longest goes first.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <utility>

#include "kernels/core/error.h"

namespace ksa {

template <typename Key, typename Value>
class LruCache {
 public:
  explicit LruCache(size_t most) : most_(most) { KSA_CHECK(most > 0, "a cache of nothing"); }

  LruCache(const LruCache&) = delete;
  LruCache& operator=(const LruCache&) = delete;

  [[nodiscard]] size_t size() const { return places_.size(); }

  // Whether the next Insert drops a value.
  [[nodiscard]] bool full() const { return places_.size() >= most_; }

  // The value of `key`, which now is the one used last; null where there is none. Valid until it is dropped.
  [[nodiscard]] Value* Find(const Key& key) {
    const auto place = places_.find(key);
    if (place == places_.end()) {
      return nullptr;
    }
    entries_.splice(entries_.begin(), entries_, place->second);
    return &place->second->second;
  }

  // Adds the value of a key that is not there.
  Value& Insert(const Key& key, Value value) {
    KSA_CHECK(places_.count(key) == 0, "a cache is given a key twice");
    if (full()) {
      places_.erase(entries_.back().first);
      entries_.pop_back();
    }
    entries_.emplace_front(key, std::move(value));
    places_.emplace(key, entries_.begin());
    return entries_.front().second;
  }

 private:
  using Entries = std::list<std::pair<Key, Value>>;

  size_t most_;
  Entries entries_;  // the one used last first
  std::map<Key, typename Entries::iterator> places_;
};

}  // namespace ksa
