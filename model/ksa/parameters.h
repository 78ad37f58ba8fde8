// The parameters of a model: names, shapes, initial values, decay and placement.
#pragma once

#include <string>
#include <vector>

#include "model/autograd/parameter.h"
#include "model/mixers/model_config.h"

namespace ksa {

// Which parameters learn: all, or those that summaries have for themselves: their embedding, what is named `_summary`,
// and what pools chunks.
enum class Trainable : int { kAll, kSummaries };

// Says of each parameter whether it is trained.
void SetTrained(std::vector<ParameterSpec>& specs, Trainable trainable);

// In the order in which they lie in the flat buffers. Names are those of the released implementation
// (tests/golden/README.md).
//
// `tensor_ranks` divides the query heads, and divides or is a multiple of the key/value heads; with `sequence_parallel`
// rows are spread over the ranks between products.
[[nodiscard]] std::vector<ParameterSpec> ParameterSpecs(const ModelConfig& config,
                                                        int tensor_ranks = 1,
                                                        bool sequence_parallel = false);

}  // namespace ksa
