// Rows that travel when an exception comes between: their memory is used by nobody else before they are there.
#include "parallel/tensor/row_collectives.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "parallel/comm/threads.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

// Exchanges as a device makes them: begun, and done at Wait.
class LateGroup final : public Communicator {
 public:
  explicit LateGroup(std::unique_ptr<Communicator> group) : group_(std::move(group)) {}

  [[nodiscard]] bool pending() const { return !late_.empty(); }

  [[nodiscard]] int rank() const override { return group_->rank(); }

  [[nodiscard]] int size() const override { return group_->size(); }

  [[nodiscard]] std::unique_ptr<Communicator> Split(int color, int rank, int size) override {
    return group_->Split(color, rank, size);
  }

  void Wait(const Stream& /*stream*/) override {
    for (const std::function<void()>& call : std::exchange(late_, {})) {
      call();
    }
  }

 protected:
  void DoExchange(const char* op,
                  std::span<const Message> sends,
                  std::span<const Message> receives,
                  const Stream& stream) override {
    late_.push_back([this,
                     op,
                     from = std::vector<Message>(sends.begin(), sends.end()),
                     to = std::vector<Message>(receives.begin(), receives.end()),
                     stream] { group_->Exchange(op, from, to, stream); });
  }

  void DoAllReduceSum(const char* op, const TensorView& x, const Stream& stream) override {
    group_->AllReduceSum(op, x, stream);
  }

  void DoReduceScatterSum(const char* op, const TensorView& x, const Stream& stream) override {
    group_->ReduceScatterSum(op, x, stream);
  }

  void DoAllGatherV(const char* op,
                    const TensorView& x,
                    std::span<const int64_t> sizes,
                    const Stream& stream) override {
    group_->AllGatherV(op, x, sizes, stream);
  }

  void DoAllToAll(const char* op, const TensorView& from, const TensorView& to, const Stream& stream) override {
    group_->AllToAll(op, from, to, stream);
  }

  void DoBroadcast(const char* op, const TensorView& x, int root, const Stream& stream) override {
    group_->Broadcast(op, x, root, stream);
  }

  int64_t DoSum(int64_t x) override { return group_->Sum(x); }

  double DoSum(double x) override { return group_->Sum(x); }

  int64_t DoMax(int64_t x) override { return group_->Max(x); }

  void DoBroadcast(std::string& bytes, int root) override { group_->Broadcast(bytes, root); }

  std::vector<std::string> DoGather(const std::string& bytes) override { return group_->Gather(bytes); }

  void DoBarrier() override { group_->Barrier(); }

 private:
  std::unique_ptr<Communicator> group_;
  std::vector<std::function<void()>> late_;
};

// Memory that must not come back while rows travel.
class WatchedAllocator final : public GuardAllocator {
 public:
  explicit WatchedAllocator(const LateGroup& group) : group_(group) {}

  void Free(void* data, int64_t bytes) noexcept override {
    EXPECT_FALSE(group_.pending()) << bytes << " bytes come back while rows travel";
    GuardAllocator::Free(data, bytes);
  }

 private:
  const LateGroup& group_;
};

constexpr RowCounts kRows = {.text = 7, .summaries = 3};

TEST(RowCollectivesTest, AnExceptionBeforeFinish) {
  RunRanks(3, [](Communicator& world) {
    LateGroup group(world.Split(0, world.rank(), world.size()));
    WatchedAllocator memory(group);
    const auto begin_and_fail = [&] {
      const Tensor whole = Tensor::Zeros({kRows.total(), 4}, DType::kF32, memory);
      const Tensor part = Tensor::Zeros({kRows.Part(world.size(), world.rank()).total(), 4}, DType::kF32, memory);
      const RowReduceScatter travelling("test.sum", whole, part, kRows, group, memory, {});
      EXPECT_TRUE(group.pending());
      Fail(ExitCode::kDiverged, "the test fails here");
    };
    EXPECT_THROW(begin_and_fail(), Error);
    EXPECT_FALSE(group.pending());
  });
}

TEST(RowCollectivesTest, APendingCallIsWaitedForOnce) {
  RunRanks(2, [](Communicator& world) {
    LateGroup group(world.Split(0, world.rank(), world.size()));
    GuardAllocator memory;
    const Tensor part = Tensor::Zeros({kRows.Part(world.size(), world.rank()).total(), 4}, DType::kF32, memory);
    const Tensor whole = Tensor::Zeros({kRows.total(), 4}, DType::kF32, memory);
    {
      PendingCalls travelling(group, {});
      GatherRows("test.gather", part, whole, kRows, group, {}, Ordering::kUntilWait);
      EXPECT_TRUE(group.pending());
      travelling.Wait();
      EXPECT_FALSE(group.pending());
      GatherRows("test.gather", part, whole, kRows, group, {}, Ordering::kUntilWait);
    }
    EXPECT_TRUE(group.pending()) << "what began after Wait is somebody else's";
    group.Wait({});
  });
}

}  // namespace
}  // namespace ksa::testing
