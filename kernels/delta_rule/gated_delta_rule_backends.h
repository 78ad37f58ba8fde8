// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/delta_rule/gated_delta_rule.h"

namespace ksa::cpu {

// T: type of q, k, v and out. `scratch` lives on the CPU.
template <typename T>
void GatedDeltaRuleForward(const GatedDeltaRuleForwardArgs& args, int threads, Allocator& scratch);

template <typename T>
void GatedDeltaRuleTransition(const GatedDeltaRuleTransitionArgs& args, int threads, Allocator& scratch);

template <typename T>
void GatedDeltaRuleBackward(const GatedDeltaRuleBackwardArgs& args, int threads, Allocator& scratch);

}  // namespace ksa::cpu
