// A mixer is what moves information between the rows of a sequence: the part of a block that layers of different kinds
// differ in. docs/design/mixers.md.
//
//   MixerKind   a kind: its name and keys, and how a layer is made of them
//   Mixer       one layer, as described: parameters, what summary rows do, what decoding keeps. No memory
//   BoundMixer  the same with its parameters: forward
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/dtype.h"
#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"
#include "model/mixers/cost.h"
#include "model/mixers/keys.h"
#include "model/mixers/layer_spec.h"
#include "model/mixers/model_config.h"
#include "model/mixers/parameters.h"
#include "model/mixers/rope_tables.h"
#include "model/mixers/settings.h"
#include "model/ops/context_attention.h"
#include "model/ops/distill.h"
#include "parallel/tensor/row_counts.h"

namespace ksa {

// model/mixers/decode.h
class LayerCache;
class DecodeStep;
struct CacheSpec;

// What the summary rows of the input do in a block.
enum class SummaryRole : int {
  kAttend,    // run through it like text rows
  kKeysOnly,  // are seen by text, and end here: the output has text rows only (the last KSA layer)
  kBypass,    // skip it unchanged (or there are none)
};

// What differs from one call to the next.
struct MixerCall {
  SummaryLayout layout;  // of the rows that are here
  SummaryLayout whole;   // of whole sequences; read where they are spread over ranks
  ContextMethod context_method = ContextMethod::kAuto;
  SummaryRole role = SummaryRole::kAttend;
  double mix = 1.0;     // weight of the summaries' own projections against the base ones
  bool unread = false;  // this runs again for its backward alone: nobody reads the last product's value
  std::shared_ptr<const AttentionTarget> target{};  // what the text's output is pulled to; null: nothing
  // Decoding: the layer's cache, which MakeCache gave. Without `step` the rows are a sequence from its first token on,
  // with summary rows for every whole chunk, and what is to be kept of them goes into `slot`. With it they are its
  // rows, and see what was kept.
  LayerCache* cache = nullptr;
  int32_t slot = 0;
  DecodeStep* step = nullptr;

  // The rows that come in, and those that leave.
  [[nodiscard]] RowCounts RowsIn() const {
    return {layout.text_rows(), role == SummaryRole::kBypass ? 0 : layout.summary_rows()};
  }

  [[nodiscard]] RowCounts RowsOut() const {
    return {layout.text_rows(), role == SummaryRole::kAttend ? layout.summary_rows() : 0};
  }
};

class BoundMixer {
 public:
  BoundMixer() = default;
  BoundMixer(const BoundMixer&) = delete;
  BoundMixer& operator=(const BoundMixer&) = delete;
  virtual ~BoundMixer() = default;

  // Normed rows [RowsIn, d] -> what is added to the first rows of the residual stream [RowsOut, d]. Tensor axis: what
  // lies between products (model/ops/collectives.h), in and out.
  [[nodiscard]] virtual Var Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const = 0;

  // Buffers for what decoding keeps of this layer, of this rank's heads; null: the kind cannot be decoded with a cache
  // on this device.
  [[nodiscard]] virtual std::unique_ptr<LayerCache> MakeCache(const ExecContext& cx, const CacheSpec& spec) const;
};

class MixerKind;

class Mixer {
 public:
  Mixer() = default;
  Mixer(const Mixer&) = delete;
  Mixer& operator=(const Mixer&) = delete;
  virtual ~Mixer() = default;

  [[nodiscard]] virtual const MixerKind& kind() const = 0;

  // The same values. `other` is of the same kind.
  [[nodiscard]] virtual bool Equals(const Mixer& other) const = 0;

  // The window w of a layer whose text sees the summaries of all chunks before it; none where text sees no summaries.
  [[nodiscard]] virtual std::optional<int32_t> SummaryWindow() const { return std::nullopt; }

  // Whether summary rows run through this layer, with parameters of their own, or skip its block.
  [[nodiscard]] virtual bool SummariesAttend(const ModelConfig& config) const = 0;

  // The layer as a teacher of self-distillation has it: the same projections of text, full causal attention to text.
  // None where that is no attention.
  [[nodiscard]] virtual std::optional<LayerSpec> Teacher() const { return std::nullopt; }

  // Softmax attention to all earlier text: what sweeps compare with.
  [[nodiscard]] virtual bool IsFullAttention() const { return false; }

  // Declares the parameters behind the block's norm; `own`: with those of summary rows.
  virtual void AddParameters(const ModelConfig& config, bool own, ParameterList& list) const = 0;

  // Finds them again. `parameters`, `ropes` and what lies in them outlive the result.
  [[nodiscard]] virtual std::unique_ptr<BoundMixer> Bind(const ModelConfig& config,
                                                         const LayerParameters& parameters,
                                                         RopeTables& ropes) const = 0;

  // Empty, or why the layer cannot be divided among `ranks` tensor ranks.
  [[nodiscard]] virtual std::string TensorProblem(const ModelConfig& config, int32_t ranks) const = 0;

  // Empty, or the kind or key for which there are no kernels of a GPU yet.
  [[nodiscard]] virtual std::string GpuProblem(const ModelConfig& /*config*/) const { return {}; }

  // What decoding keeps after `tokens` tokens of a sequence.
  [[nodiscard]] virtual CacheSize CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const = 0;
};

// The chunk size that a kind asks of the layout, and the key that says it.
struct ChunkKey {
  std::string path;             // below model.attention
  std::optional<int32_t> size;  // none: not given
};

class MixerKind {
 public:
  MixerKind() = default;
  MixerKind(const MixerKind&) = delete;
  MixerKind& operator=(const MixerKind&) = delete;
  virtual ~MixerKind() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;  // as in model.attention.pattern
  [[nodiscard]] virtual std::string_view doc() const = 0;   // one line: what a text token sees

  // Defaults of what ModelConfig::mixers holds for this kind.
  [[nodiscard]] virtual std::optional<AnyValue> DefaultSettings() const { return std::nullopt; }

  // Below model.attention, in the order of docs/configuration.md; their paths begin with the kind's name.
  [[nodiscard]] virtual std::vector<MixerKey> Keys() const { return {}; }

  // What an entry of the pattern may say.
  [[nodiscard]] virtual std::vector<EntryField> EntryFields() const { return {}; }

  // A layer. What neither the entry nor a key gives is 0; such a configuration has a problem.
  [[nodiscard]] virtual LayerSpec MakeLayer(const ModelConfig& config, const EntryValues& entry) const = 0;

  // The shortest entry that gives `mixer` again, one of this kind.
  [[nodiscard]] virtual EntryValues EntryOf(const ModelConfig& /*config*/, const Mixer& /*mixer*/) const { return {}; }

  // The chunks that its layers need; none: any.
  [[nodiscard]] virtual std::optional<ChunkKey> Chunk(const ModelConfig& /*config*/) const { return std::nullopt; }

  // Tokens of text that its layers see, where a chunk size and a number of chunks decide: an ablation over the chunk
  // size holds it constant. Of layers that don't override it.
  [[nodiscard]] virtual std::optional<int64_t> TextWindow(const ModelConfig& /*config*/) const { return std::nullopt; }

  // The rules between its keys that are broken.
  [[nodiscard]] virtual std::vector<MixerProblem> Problems(const MixerDraft& /*draft*/) const { return {}; }

  // What is allowed but surely not meant, a line each; of a model in use with sequences of this length.
  [[nodiscard]] virtual std::vector<std::string> Warnings(const ModelConfig& /*config*/,
                                                          int32_t /*sequence_length*/) const {
    return {};
  }
};

}  // namespace ksa
