// What a model costs: floating-point operations, parameters and KV-cache. Operations are counted from the real mask, by
// the operations themselves (forward_counter.h).
// Derivation and examples: docs/performance.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/ksa/forward_counter.h"
#include "model/mixers/cost.h"
#include "model/mixers/model_config.h"

namespace ksa {

// Of one forward pass over a layout of this model (MakeLayout). Whoever counts many keeps a ForwardCounter.
[[nodiscard]] ForwardFlops CountForwardFlops(const ModelConfig& config, const SummaryLayout& layout);

// Mean over the layers of the keys that a text query sees, for one sequence of `text_tokens`.
[[nodiscard]] double KeysPerTextQuery(const ModelConfig& config, int32_t text_tokens);

// Forward FLOPs a text token, for one sequence of `text_tokens` of which `targets` have one (none: all).
[[nodiscard]] double ForwardFlopsPerToken(const ModelConfig& config,
                                          int32_t text_tokens,
                                          std::optional<double> targets = {});

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
