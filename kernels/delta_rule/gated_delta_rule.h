// The gated delta rule (Yang, Kautz, Hatamizadeh 2024, arXiv 2412.06464): a matrix-valued state that decays, and into
// which each token writes the difference between its value and what the state predicts for its key.
//
//   S <- e^g S;   u = beta (v - S^T k);   S <- S + k u^T;   out = S^T q / sqrt(dk)
//
// Shapes: n text rows, hk key heads, hv value heads (value head i reads key head i / (hv/hk)), dk and dv head dims.
// Rows are the text rows of `layout`, summaries are none of them. State: [slices, hv, dk, dv] in the accumulation type.
//
// A slice is a run of rows that follow each other in a sequence: a whole sequence, or each of the one or two runs of it
// that are here. A document starts with a state of zeros, also in the middle of a slice; a
// document that began before the slice goes on from its initial state. Padding rows leave the state as it is, have
// output exactly 0, and no gradient.
//
// Computed by chunks of 64 rows (the same paper, section 3.3): within a chunk the writes u are the solution of a unit
// lower triangular system, found by substitution; from chunk to chunk the state is handed on. Never through powers of
// the system's matrix, which lose everything where keys look alike.
#pragma once

#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/host_device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Of a sequence: one, or two where it is here in two runs, with a gap between them or not.
[[nodiscard]] KSA_HOST_DEVICE inline int32_t SlicesOfSequence(const SummaryLayout& layout) {
  return layout.run_chunks < layout.chunks() ? 2 : 1;
}

// Of all sequences; those of a sequence follow each other.
[[nodiscard]] inline int64_t SliceCount(const SummaryLayout& layout) {
  return int64_t{1} * layout.sequences * SlicesOfSequence(layout);
}

struct GatedDeltaRuleForwardArgs {
  TensorView q;                // [n, hk, dk]; scaled by 1/sqrt(dk) in here
  TensorView k;                // [n, hk, dk]; of length 1, or the state may grow without bound
  TensorView v;                // [n, hv, dv]
  TensorView g;                // [n, hv] accumulation type: the logarithm of the decay, <= 0
  TensorView beta;             // [n, hv] accumulation type: how much of the difference is written, in [0, 2]
  TensorView initial_state{};  // [slices, hv, dk, dv], or empty: zeros
  TensorView out{};            // [n, hv, dv] out, or empty: the state alone is wanted
  TensorView final_state{};    // [slices, hv, dk, dv] out, or empty
  SummaryLayout layout;
  Allocator* allocator = nullptr;  // of scratch, freed before the call returns; null: from the system
};

void GatedDeltaRuleForward(const GatedDeltaRuleForwardArgs& args, const Stream& stream);

// The transition of each slice: final state = transition · initial state + what the slice itself writes. Zero where a
// document starts in the slice.
struct GatedDeltaRuleTransitionArgs {
  TensorView k;           // [n, hk, dk]
  TensorView g;           // [n, hv]
  TensorView beta;        // [n, hv]
  TensorView transition;  // [slices, hv, dk, dk] out, accumulation type
  SummaryLayout layout;
  Allocator* allocator = nullptr;
};

void GatedDeltaRuleTransition(const GatedDeltaRuleTransitionArgs& args, const Stream& stream);

struct GatedDeltaRuleBackwardArgs {
  TensorView q;                 // [n, hk, dk]
  TensorView k;                 // [n, hk, dk]
  TensorView v;                 // [n, hv, dv]
  TensorView g;                 // [n, hv]
  TensorView beta;              // [n, hv]
  TensorView initial_state{};   // as in forward
  TensorView dout;              // [n, hv, dv]
  TensorView dfinal_state{};    // [slices, hv, dk, dv], or empty: zeros
  TensorView dq{};              // [n, hk, dk] out, or empty: of all gradients, dinitial_state alone is wanted
  TensorView dk{};              // [n, hk, dk] out
  TensorView dv{};              // [n, hv, dv] out
  TensorView dg{};              // [n, hv] out, accumulation type
  TensorView dbeta{};           // [n, hv] out, accumulation type
  TensorView dinitial_state{};  // [slices, hv, dk, dv] out, or empty
  SummaryLayout layout;
  Allocator* allocator = nullptr;
};

void GatedDeltaRuleBackward(const GatedDeltaRuleBackwardArgs& args, const Stream& stream);

// One step of a fold over slices: out = transition · state + add, head by head. With `transposed` the step back of a
// gradient. Shapes: m heads.
struct DeltaStateStepArgs {
  TensorView transition;  // [m, dk, dk]
  TensorView state;       // [m, dk, dv]
  TensorView add;         // [m, dk, dv]
  TensorView out;         // [m, dk, dv] out, may not alias state
  bool transposed = false;
};

void DeltaStateStep(const DeltaStateStepArgs& args, const Stream& stream);

}  // namespace ksa
