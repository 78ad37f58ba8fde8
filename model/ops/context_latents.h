// Context attention (context_attention.h) whose keys and values travel as latents, and are expanded where they arrive.
#pragma once

#include <memory>

#include "model/ops/context_attention.h"
#include "model/ops/key_expander.h"

namespace ksa {

// As StartContextKeys, of the `small` rows that `expander` makes keys and values of: [nk_l, a] and [nk_l, b]. Tensor
// axis: Entered, for every rank expands them for its own heads. By keys, whatever the method of `spec`.
[[nodiscard]] std::shared_ptr<ContextKeys> StartContextLatents(const ExecContext& cx,
                                                               const Var& small_k,
                                                               const Var& small_v,
                                                               std::shared_ptr<const KeyExpander> expander,
                                                               const ContextAttentionSpec& spec);

}  // namespace ksa
