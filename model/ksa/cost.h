// What a model costs: visible pairs, floating-point operations, parameters and KV-cache, counted from the real mask.
// Of a layout that holds a part of its sequences: what that part's text and summary queries cost, wherever their keys
// lie.
// Derivation and examples: docs/performance.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/mixers/attention/pairs.h"
#include "model/mixers/cost.h"
#include "model/mixers/model_config.h"

namespace ksa {

// Visible pairs of layer `layer` of a model, where live summaries attend, are keys only (the last KSA layer) or stand
// aside.
[[nodiscard]] PairCount CountLayerPairs(const ModelConfig& config, const SummaryLayout& layout, int32_t layer);

// Mean over the layers of the keys that a text query sees, for one sequence of `text_tokens`.
[[nodiscard]] double KeysPerTextQuery(const ModelConfig& config, int32_t text_tokens);

// Floating-point operations of a forward pass: two a multiply-add of every matrix product on live rows and of
// attention's visible pairs. Norms, activations, softmax, and the base projections of summaries that exist while
// annealing only are not counted.
struct ForwardFlops {
  double linear = 0.0;          // text rows: q, k, v, o and MLP
  double summary_linear = 0.0;  // summary rows: the same
  double attention = 0.0;
  double head = 0.0;

  [[nodiscard]] double Total() const { return linear + summary_linear + attention + head; }
};

// Of one forward pass over a layout of this model (MakeLayout).
[[nodiscard]] ForwardFlops CountForwardFlops(const ModelConfig& config, const SummaryLayout& layout);

// Forward FLOPs a text token, for one sequence of `text_tokens`.
[[nodiscard]] double ForwardFlopsPerToken(const ModelConfig& config, int32_t text_tokens);

// Model FLOPs utilisation, 0..1: a step is three forward passes (backward is two, recompute never counts).
// `forward_flops` and `peak_flops` (a second) of all ranks together; none where the peak of the device is unknown.
[[nodiscard]] std::optional<double> Mfu(double forward_flops, double seconds, std::optional<double> peak_flops);

inline constexpr int kParameterKinds = 8;

// Elements of all parameters of a kind, by static_cast<size_t>(ParameterKind).
[[nodiscard]] std::array<int64_t, kParameterKinds> CountParameters(const ModelConfig& config);

[[nodiscard]] int64_t TotalParameters(const ModelConfig& config);

// What decoding has to keep of a sequence after `tokens` tokens, summed over the layers.
[[nodiscard]] CacheSize CountKvCache(const ModelConfig& config, int64_t tokens, DType dtype = DType::kBF16);

}  // namespace ksa
