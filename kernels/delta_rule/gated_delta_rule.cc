#include "kernels/delta_rule/gated_delta_rule.h"

#include <initializer_list>

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/host_allocator.h"
#include "kernels/core/op.h"
#include "kernels/core/parallel.h"
#include "kernels/core/tensor_work.h"
#include "kernels/delta_rule/delta_rule_backends.h"
#include "kernels/delta_rule/rule_scratch.h"

namespace ksa {
namespace {

// What all calls have: keys, decay and write strength of the layout's text rows.
template <typename Args>
void CheckKeys(const ArgumentCheck& check, const Args& args) {
  const DType dtype = args.k.dtype;
  const DType exact = AccumulationType(dtype);
  check.Floating("k", args.k);
  check.Rank("k", args.k, 3);
  check.Rank("g", args.g, 2);
  const int64_t n = args.layout.text_rows();
  const int64_t key_heads = args.k.shape[1];
  const int64_t value_heads = args.g.shape[1];
  KSA_CHECK(key_heads > 0 && value_heads > 0 && value_heads % key_heads == 0,
            "gated delta rule: value heads {} cannot share key heads {}; expected [rows, hv] and [rows, hk, dk] with "
            "hv a multiple of hk",
            args.g.shape.ToString(),
            args.k.shape.ToString());
  check.Tensor("k", args.k, dtype, {n, key_heads, args.k.shape[2]});
  check.Tensor("g", args.g, exact, {n, value_heads});
  check.Tensor("beta", args.beta, exact, {n, value_heads});
}

template <typename Args>
Shape StateShape(const Args& args, int64_t columns) {
  return {SliceCount(args.layout), args.g.shape[1], args.k.shape[2], columns};
}

// Of a value head and row: the mathematics predicts, writes and reads, once each element of a state (backward twice),
// two operations each time; chunks also multiply their rows with each other.
OpWork WorkOf(const SummaryLayout& layout, const Shape& state, bool backward, std::initializer_list<TensorView> moved) {
  constexpr int64_t kChunk = 64;
  OpWork work = MovedBy(WorkKind::kRows, moved);
  const int64_t rows = layout.text_rows() * state[1];
  work.useful = (backward ? 12 : 6) * rows * state[2] * state[3];
  work.done = backward ? rows * (16 * state[2] * state[3] + kChunk * (12 * state[2] + 10 * state[3]))
                       : rows * (6 * state[2] * state[3] + kChunk * (4 * state[2] + 4 * state[3]));
  return work;
}

// Runs on_gpu() on a GPU, and call(element, threads, scratch) on the CPU.
template <typename Args, typename Work, typename Gpu, typename Call>
void Run(
    const char* op, const Args& args, const Stream& stream, const Work& work, const Gpu& on_gpu, const Call& call) {
  RunOp(op, stream, {args.k.shape, args.g.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      on_gpu();
      return;
    }
    HostAllocator own;
    Allocator& scratch = args.allocator == nullptr ? own : *args.allocator;
    DispatchFloating(args.k.dtype, [&](auto element) { call(element, ThreadsFor(stream, args.k.size()), scratch); });
  });
}

}  // namespace

void GatedDeltaRuleForward(const GatedDeltaRuleForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("GatedDeltaRuleForward", stream);
  CheckKeys(check, args);
  check.Rank("v", args.v, 3);
  const DType dtype = args.k.dtype;
  const Shape values = {args.k.rows(), args.g.shape[1], args.v.shape[2]};
  const Shape state = StateShape(args, values[2]);
  check.Tensor("v", args.v, dtype, values);
  check.Optional("initial_state", args.initial_state, AccumulationType(dtype), state);
  check.Optional("final_state", args.final_state, AccumulationType(dtype), state);
  if (!args.out.empty()) {
    check.Tensor("q", args.q, dtype, args.k.shape);
    check.Tensor("out", args.out, dtype, values);
  }
  const auto work = [&] { return WorkOf(args.layout, state, false, {args.q, args.k, args.v, args.out}); };
  const auto on_gpu = [&] {
    if (stream.dry) {
      static_cast<void>(delta_rule::ForwardScratch("GatedDeltaRuleForward", args, values[2], !args.out.empty()));
    }
    KSA_CUDA_OR_FAIL("GatedDeltaRuleForward", stream, cuda::GatedDeltaRuleForward(args, stream));
  };
  Run("GatedDeltaRuleForward", args, stream, work, on_gpu, [&](auto element, int threads, Allocator& scratch) {
    cpu::GatedDeltaRuleForward<decltype(element)>(args, threads, scratch);
  });
}

void GatedDeltaRuleTransition(const GatedDeltaRuleTransitionArgs& args, const Stream& stream) {
  const ArgumentCheck check("GatedDeltaRuleTransition", stream);
  CheckKeys(check, args);
  check.Tensor("transition", args.transition, AccumulationType(args.k.dtype), StateShape(args, args.k.shape[2]));
  const auto work = [&] { return WorkOf(args.layout, args.transition.shape, false, {args.k, args.transition}); };
  const auto on_gpu = [&] {
    if (stream.dry) {
      static_cast<void>(delta_rule::ForwardScratch("GatedDeltaRuleTransition", args, 0, false));
    }
    KSA_CUDA_OR_FAIL("GatedDeltaRuleTransition", stream, cuda::GatedDeltaRuleTransition(args, stream));
  };
  Run("GatedDeltaRuleTransition", args, stream, work, on_gpu, [&](auto element, int threads, Allocator& scratch) {
    cpu::GatedDeltaRuleTransition<decltype(element)>(args, threads, scratch);
  });
}

void GatedDeltaRuleBackward(const GatedDeltaRuleBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("GatedDeltaRuleBackward", stream);
  CheckKeys(check, args);
  check.Rank("v", args.v, 3);
  const DType dtype = args.k.dtype;
  const DType exact = AccumulationType(dtype);
  const Shape values = {args.k.rows(), args.g.shape[1], args.v.shape[2]};
  const Shape state = StateShape(args, values[2]);
  check.Tensor("q", args.q, dtype, args.k.shape);
  check.Tensor("v", args.v, dtype, values);
  check.Tensor("dout", args.dout, dtype, values);
  if (!args.dq.empty()) {
    check.Tensor("dq", args.dq, dtype, args.k.shape);
    check.Tensor("dk", args.dk, dtype, args.k.shape);
    check.Tensor("dv", args.dv, dtype, values);
    check.Tensor("dg", args.dg, exact, args.g.shape);
    check.Tensor("dbeta", args.dbeta, exact, args.g.shape);
  }
  check.Optional("initial_state", args.initial_state, exact, state);
  check.Optional("dfinal_state", args.dfinal_state, exact, state);
  check.Optional("dinitial_state", args.dinitial_state, exact, state);
  const auto work = [&] {
    return WorkOf(args.layout, state, true, {args.q, args.k, args.v, args.dout, args.dq, args.dk, args.dv});
  };
  const auto on_gpu = [&] {
    if (stream.dry) {
      static_cast<void>(delta_rule::BackwardScratch(args));
    }
    KSA_CUDA_OR_FAIL("GatedDeltaRuleBackward", stream, cuda::GatedDeltaRuleBackward(args, stream));
  };
  Run("GatedDeltaRuleBackward", args, stream, work, on_gpu, [&](auto element, int threads, Allocator& scratch) {
    cpu::GatedDeltaRuleBackward<decltype(element)>(args, threads, scratch);
  });
}

void DeltaStateStep(const DeltaStateStepArgs& args, const Stream& stream) {
  const ArgumentCheck check("DeltaStateStep", stream);
  check.Rank("state", args.state, 3);
  const DType dtype = args.state.dtype;
  const Shape& state = args.state.shape;
  check.Tensor("transition", args.transition, dtype, {state[0], state[1], state[1]});
  check.Tensor("state", args.state, dtype, state);
  check.Tensor("add", args.add, dtype, state);
  check.Tensor("out", args.out, dtype, state);
  const auto work = [&] {
    OpWork step = MovedBy(WorkKind::kProduct, {args.transition, args.state, args.add, args.out});
    step.useful = step.done = 2 * state.size() * state[1];
    return step;
  };
  RunOp("DeltaStateStep", stream, {state}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("DeltaStateStep", stream, cuda::DeltaStateStep(args, stream));
      return;
    }
    DispatchAccumulator(dtype, [&](auto element) {
      cpu::DeltaStateStep<decltype(element)>(args, ThreadsFor(stream, args.transition.size()));
    });
  });
}

}  // namespace ksa
