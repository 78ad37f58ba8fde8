// Groups in which nothing travels: of this rank alone, and of ranks that do not exist.
#include "kernels/copy/elementwise.h"
#include "kernels/core/error.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/own_messages.h"

namespace ksa {
namespace {

class SilentCommunicator : public Communicator {
 public:
  SilentCommunicator(int rank, int size) : rank_(rank), size_(size) {
    KSA_CHECK(0 <= rank && rank < size, "rank {} of {}", rank, size);
  }

  [[nodiscard]] int rank() const override { return rank_; }

  [[nodiscard]] int size() const override { return size_; }

  void Wait(const Stream& /*stream*/) override {}

 protected:
  void DoAllReduceSum(const char* /*op*/, const TensorView& /*x*/, const Stream& /*stream*/) override {}

  void DoReduceScatterSum(const char* /*op*/, const TensorView& /*x*/, const Stream& /*stream*/) override {}

  void DoAllGatherV(const char* /*op*/,
                    const TensorView& /*x*/,
                    std::span<const int64_t> /*sizes*/,
                    const Stream& /*stream*/) override {}

  void DoAllToAll(const char* /*op*/,
                  const TensorView& /*from*/,
                  const TensorView& /*to*/,
                  const Stream& /*stream*/) override {}

  void DoExchange(const char* /*op*/,
                  std::span<const Message> /*sends*/,
                  std::span<const Message> /*receives*/,
                  const Stream& /*stream*/) override {}

  void DoBroadcast(const char* /*op*/, const TensorView& /*x*/, int /*root*/, const Stream& /*stream*/) override {}

  int64_t DoSum(int64_t x) override { return x; }

  double DoSum(double x) override { return x; }

  int64_t DoMax(int64_t x) override { return x; }

  void DoBroadcast(std::string& /*bytes*/, int /*root*/) override {}

  std::vector<std::string> DoGather(const std::string& bytes) override {
    return std::vector<std::string>(static_cast<size_t>(size_), bytes);
  }

  void DoBarrier() override {}

 private:
  int rank_;
  int size_;
};

class SelfCommunicator final : public SilentCommunicator {
 public:
  SelfCommunicator() : SilentCommunicator(0, 1) {}

  [[nodiscard]] std::unique_ptr<Communicator> Split(int /*color*/, int rank, int size) override {
    KSA_CHECK(rank == 0 && size == 1, "one rank cannot be split into {}", size);
    auto group = std::make_unique<SelfCommunicator>();
    group->SetObserver(observer());
    return group;
  }

 protected:
  void DoAllToAll(const char* /*op*/, const TensorView& from, const TensorView& to, const Stream& stream) override {
    Copy(from, to, stream);
  }

  void DoExchange(const char* op,
                  std::span<const Message> sends,
                  std::span<const Message> receives,
                  const Stream& stream) override {
    ForOwnMessages(op, 0, 1, sends, receives, [&](const TensorView& from, const TensorView& to) {
      if (from.size() > 0) {
        Copy(from, to, stream);
      }
    });
  }
};

class DryCommunicator final : public SilentCommunicator {
 public:
  using SilentCommunicator::SilentCommunicator;

  void Wait(const Stream& /*stream*/) override {
    if (observer() != nullptr && size() > 1) {
      observer()->Waits(*this);
    }
  }

  [[nodiscard]] std::unique_ptr<Communicator> Split(int /*color*/, int rank, int size) override {
    auto group = std::make_unique<DryCommunicator>(rank, size);
    group->SetObserver(observer());
    return group;
  }
};

}  // namespace

std::unique_ptr<Communicator> MakeSelfCommunicator() {
  return std::make_unique<SelfCommunicator>();
}

std::unique_ptr<Communicator> MakeDryCommunicator(int size, int rank) {
  return std::make_unique<DryCommunicator>(rank, size);
}

}  // namespace ksa
