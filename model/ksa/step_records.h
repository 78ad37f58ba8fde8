// StepRecords: steps of decoding that are recorded once a kind and launched again for every token of that kind.
//
// A kind is what the operations of a step and the shapes of their tensors depend on: how many sequences go on, how many
// of them end a chunk, and a length that all of them are within. The rest, which slot, which position, which rows of
// the caches, is numbers that the operations read from memory (StepNumbers), and that are written there before each
// launch.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "kernels/core/arena.h"
#include "kernels/core/gpu.h"
#include "kernels/core/lru_cache.h"
#include "kernels/core/recorded_work.h"
#include "model/mixers/decode.h"

namespace ksa {

class StepRecords {
 public:
  // The operations of a step -> [n, d].
  using Pass = std::function<Tensor(const ExecContext&, DecodeStep&)>;

  // `cx` must outlive it. Memory of the recorded operations comes from its allocator, and stays taken.
  explicit StepRecords(const ExecContext& cx) : cx_(cx), slabs_(*cx.allocator), arena_(slabs_) {}

  // The first step of a kind runs as it is, the second one is recorded. -> what `pass` returns; a recorded one's is
  // written again by the next step. `pass` computes the same at every call.
  [[nodiscard]] Tensor Run(StepTokens tokens, const Pass& pass);

 private:
  // Slabs out of another allocator's memory.
  class Slabs final : public SlabSource {
   public:
    explicit Slabs(Allocator& from) : from_(from) {}

    [[nodiscard]] Device device() const override { return from_.device(); }

    [[nodiscard]] void* Take(int64_t bytes) override { return from_.Allocate(bytes); }

    void Give(void* slab, int64_t bytes) noexcept override { from_.Free(slab, bytes); }

    [[nodiscard]] int64_t SlabBytes(int64_t bytes, int64_t /*reserved*/) const override {
      return std::max(bytes, int64_t{4} << 20);
    }

   private:
    Allocator& from_;
  };

  using Kind = std::array<int64_t, 3>;

  struct Record {
    StepNumbers numbers;
    Tensor result;
    RecordedWork work;
  };

  // Texts of a batch that end their chunks at different times take turns among as many kinds as there are texts.
  static constexpr size_t kMostKinds = 32;

  void RecordStep(Record& record, const StepTokens& tokens, const Pass& pass);
  void WriteNumbers(Record& record, const StepTokens& tokens);

  ExecContext cx_;
  Slabs slabs_;
  ArenaAllocator arena_;
  std::unique_ptr<PinnedMemory> staging_;
  Event staged_;  // what lies in it has been copied
  LruCache<Kind, std::unique_ptr<Record>> records_{kMostKinds};
};

}  // namespace ksa
