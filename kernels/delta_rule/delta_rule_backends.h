// Internal to the family: what its front files switch between. Arguments are checked already.
#pragma once

#include "kernels/delta_rule/delta_gates.h"
#include "kernels/delta_rule/gated_delta_rule.h"
#include "kernels/delta_rule/gated_norm.h"
#include "kernels/delta_rule/l2_norm.h"

// On a GPU, in fp32 and bf16.
namespace ksa::cuda {

void GatedDeltaRuleForward(const GatedDeltaRuleForwardArgs& args, const Stream& stream);
void GatedDeltaRuleTransition(const GatedDeltaRuleTransitionArgs& args, const Stream& stream);
void GatedDeltaRuleBackward(const GatedDeltaRuleBackwardArgs& args, const Stream& stream);
void DeltaStateStep(const DeltaStateStepArgs& args, const Stream& stream);
void L2NormForward(const L2NormForwardArgs& args, const Stream& stream);
void L2NormBackward(const L2NormBackwardArgs& args, const Stream& stream);
void DeltaGatesForward(const DeltaGatesForwardArgs& args, const Stream& stream);
void DeltaGatesBackward(const DeltaGatesBackwardArgs& args, const Stream& stream);
void GatedNormForward(const GatedNormForwardArgs& args, const Stream& stream);
void GatedNormBackward(const GatedNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda

// T: type of the activations. `scratch` lives on the CPU.
namespace ksa::cpu {

template <typename T>
void GatedDeltaRuleForward(const GatedDeltaRuleForwardArgs& args, int threads, Allocator& scratch);

template <typename T>
void GatedDeltaRuleTransition(const GatedDeltaRuleTransitionArgs& args, int threads, Allocator& scratch);

template <typename T>
void GatedDeltaRuleBackward(const GatedDeltaRuleBackwardArgs& args, int threads, Allocator& scratch);

// A: of the states.
template <typename A>
void DeltaStateStep(const DeltaStateStepArgs& args, int threads);

template <typename T>
void L2NormForward(const L2NormForwardArgs& args, const Stream& stream);

template <typename T>
void L2NormBackward(const L2NormBackwardArgs& args, const Stream& stream);

template <typename T>
void DeltaGatesForward(const DeltaGatesForwardArgs& args, const Stream& stream);

template <typename T>
void DeltaGatesBackward(const DeltaGatesBackwardArgs& args, const Stream& stream);

template <typename T>
void GatedNormForward(const GatedNormForwardArgs& args, const Stream& stream);

template <typename T>
void GatedNormBackward(const GatedNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu
