// Decoder: a model that goes on token by token, keeping of each sequence what its layers need of the past instead of
// computing it again. docs/design/decode.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/core/gpu.h"
#include "model/ksa/model.h"
#include "model/ksa/step_records.h"

namespace ksa {

// The longest sequence that a decoder's buffers are made for, at least: what a convolution reaches.
inline constexpr int32_t kLeastCacheTokens = 16;

// Whether a step's operations are recorded once and launched again (StepRecords), which saves what the host needs for
// each of them.
enum class StepRecording : int { kOnGpus, kNever, kAlways };

class Decoder {
 public:
  struct Size {
    int32_t sequences = 1;  // at once, each in its slot
    int32_t tokens = 0;     // of a sequence, at most
    StepRecording recording = StepRecording::kOnGpus;
  };

  // Takes the memory of all slots. `cx` has no tape; it, the model and what it needs must outlive the decoder. `mix`:
  // AnnealMix. Error(kConfig) where a layer cannot be decoded so.
  Decoder(const ExecContext& cx, KsaModel& model, const Size& size, double mix);
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // Tokens that a slot has room for.
  [[nodiscard]] int32_t capacity() const { return tokens_; }

  // What the caches of a sequence of so many tokens take on this rank, before there are any.
  [[nodiscard]] static int64_t BytesOfSequence(const ExecContext& cx, const KsaModel& model, int32_t tokens);

  // Of all buffers, counted from them.
  [[nodiscard]] int64_t CacheBytes() const;

  // Tokens of a sequence so far; 0: none has begun.
  [[nodiscard]] int32_t Length(int32_t slot) const { return lengths_.at(static_cast<size_t>(slot)); }

  // The beginning of a sequence, in one pass; what the slot held before is gone. -> [1, d] of the last token, after the
  // final norm. 1 <= tokens <= capacity().
  [[nodiscard]] Tensor Prefill(int32_t slot, std::span<const int32_t> ids);

  struct Next {
    int32_t slot = 0;
    int32_t id = 0;
  };

  // The next token of some sequences, each of another slot that Prefill began, in one pass that reads every weight
  // once. -> [n, d] in their order, until the next step.
  [[nodiscard]] Tensor Step(std::span<const Next> next);

  // Of hidden rows, on the host, until the next call: [rows, KsaModel's columns]. Waits for them.
  [[nodiscard]] TensorView Logits(const Tensor& hidden);

 private:
  ExecContext cx_;
  KsaModel& model_;
  double mix_;
  int32_t tokens_;
  std::vector<std::unique_ptr<LayerCache>> caches_;
  std::vector<int32_t> lengths_;
  std::unique_ptr<StepRecords> records_;  // null: each operation is queued by itself
  Tensor logits_;
  std::unique_ptr<PinnedMemory> on_host_;
};

}  // namespace ksa
