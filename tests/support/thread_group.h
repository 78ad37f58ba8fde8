// Ranks as threads of one process: communicators for tests of code that talks between ranks.
#pragma once

#include <algorithm>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/communicator.h"

namespace ksa::testing {

class ThreadCommunicator final : public Communicator {
 public:
  struct Group {
    explicit Group(int size) : barrier(size), slots(static_cast<size_t>(size)) {}

    std::barrier<> barrier;
    std::vector<std::string> slots;
  };

  ThreadCommunicator(Group& group, int rank) : group_(group), rank_(rank) {}

  [[nodiscard]] int rank() const override { return rank_; }

  [[nodiscard]] int size() const override { return static_cast<int>(group_.slots.size()); }

  void AllReduceSum(const TensorView& /*x*/) override { Refuse(); }

  void ReduceScatterSum(const TensorView& /*x*/) override { Refuse(); }

  void AllGather(const TensorView& /*x*/) override { Refuse(); }

  int64_t Sum(int64_t x) override {
    int64_t sum = 0;
    for (const std::string& text : Gather(std::to_string(x))) {
      sum += std::stoll(text);
    }
    return sum;
  }

  double Sum(double /*x*/) override {
    Refuse();
    return 0;
  }

  int64_t Max(int64_t x) override {
    int64_t most = x;
    for (const std::string& text : Gather(std::to_string(x))) {
      most = std::max<int64_t>(most, std::stoll(text));
    }
    return most;
  }

  void Broadcast(std::string& bytes, int root) override { bytes = Gather(bytes)[static_cast<size_t>(root)]; }

  [[nodiscard]] std::vector<std::string> Gather(const std::string& bytes) override {
    group_.slots[static_cast<size_t>(rank_)] = bytes;
    group_.barrier.arrive_and_wait();
    std::vector<std::string> all = group_.slots;
    group_.barrier.arrive_and_wait();
    return all;
  }

  void Barrier() override { group_.barrier.arrive_and_wait(); }

 private:
  static void Refuse() { KSA_CHECK(false, "this communicator carries small values only"); }

  Group& group_;
  int rank_;
};

// Runs `work` on `size` ranks at once; returns what each threw (null: nothing). A rank that fails alone would leave the
// others waiting for ever: the test's timeout tells.
inline std::vector<std::exception_ptr> RunRanks(int size, const std::function<void(Communicator&)>& work) {
  ThreadCommunicator::Group group(size);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadCommunicator communicator(group, rank);
      try {
        work(communicator);
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return errors;
}

// The same where nothing may fail.
inline void RunRanksOrThrow(int size, const std::function<void(Communicator&)>& work) {
  for (const std::exception_ptr& error : RunRanks(size, work)) {
    if (error) {
      std::rethrow_exception(error);
    }
  }
}

}  // namespace ksa::testing
