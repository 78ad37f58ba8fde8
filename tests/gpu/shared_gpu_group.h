// Ranks as threads that share one GPU: exchanges between tensors there, for tests of what ranks compute. Every rank of
// the group makes every exchange; other collectives of tensors are refused.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/copy/elementwise.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "parallel/comm/communicator.h"

namespace ksa::testing {

class SharedGpuGroup final : public Communicator {
 public:
  // `host`: the same ranks.
  explicit SharedGpuGroup(std::unique_ptr<Communicator> host) : host_(std::move(host)) {}

  [[nodiscard]] int rank() const override { return host_->rank(); }

  [[nodiscard]] int size() const override { return host_->size(); }

  [[nodiscard]] std::unique_ptr<Communicator> Split(int color, int rank, int size) override {
    return std::make_unique<SharedGpuGroup>(host_->Split(color, rank, size));
  }

  void Wait(const Stream& /*stream*/) override {}

 protected:
  void DoAllReduceSum(const char* /*op*/, const TensorView& /*x*/, const Stream& /*stream*/) override { Refuse(); }

  void DoReduceScatterSum(const char* /*op*/, const TensorView& /*x*/, const Stream& /*stream*/) override { Refuse(); }

  void DoAllGatherV(const char* /*op*/,
                    const TensorView& /*x*/,
                    std::span<const int64_t> /*sizes*/,
                    const Stream& /*stream*/) override {
    Refuse();
  }

  void DoAllToAll(const char* /*op*/,
                  const TensorView& /*from*/,
                  const TensorView& /*to*/,
                  const Stream& /*stream*/) override {
    Refuse();
  }

  // The addresses of what everybody sends go around; each rank fetches what it receives.
  void DoExchange(const char* op,
                  std::span<const Message> sends,
                  std::span<const Message> receives,
                  const Stream& stream) override {
    Synchronize(stream);
    std::string mine;
    for (const Message& message : sends) {
      const Offer offer = {message.peer, message.data.data, message.data.size()};
      mine.append(reinterpret_cast<const char*>(&offer), sizeof(Offer));
    }
    const std::vector<std::string> offers = host_->Gather(mine);
    std::vector<size_t> next(offers.size(), 0);
    for (const Message& message : receives) {
      const auto peer = static_cast<size_t>(message.peer);
      Offer offer = Next(offers[peer], next[peer]);
      while (offer.peer != rank()) {
        offer = Next(offers[peer], next[peer]);
      }
      KSA_CHECK(offer.size == message.data.size(), "{}: {} elements for {}", op, offer.size, message.data.size());
      TensorView from = message.data;
      from.data = offer.data;
      Copy(from, message.data, stream);
    }
    Synchronize(stream);
    host_->Barrier();
  }

  void DoBroadcast(const char* /*op*/, const TensorView& /*x*/, int /*root*/, const Stream& /*stream*/) override {
    Refuse();
  }

  int64_t DoSum(int64_t x) override { return host_->Sum(x); }

  double DoSum(double x) override { return host_->Sum(x); }

  int64_t DoMax(int64_t x) override { return host_->Max(x); }

  void DoBroadcast(std::string& bytes, int root) override { host_->Broadcast(bytes, root); }

  std::vector<std::string> DoGather(const std::string& bytes) override { return host_->Gather(bytes); }

  void DoBarrier() override { host_->Barrier(); }

 private:
  struct Offer {
    int peer = 0;
    void* data = nullptr;
    int64_t size = 0;
  };

  static Offer Next(const std::string& offers, size_t& next) {
    KSA_CHECK((next + 1) * sizeof(Offer) <= offers.size(), "a message is awaited that nobody sends");
    Offer offer;
    std::memcpy(&offer, offers.data() + next++ * sizeof(Offer), sizeof(Offer));
    return offer;
  }

  static void Refuse() { KSA_CHECK(false, "ranks that share a GPU exchange messages alone"); }

  std::unique_ptr<Communicator> host_;
};

}  // namespace ksa::testing
