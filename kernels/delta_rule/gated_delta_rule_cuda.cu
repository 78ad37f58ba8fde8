// The gated delta rule on a GPU: which kernels run, and on what. Every sum has an order of its own that the shapes
// alone decide; no block waits for another but by the order of launches.
#include <cmath>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/delta_rule/delta_rule_backends.h"
#include "kernels/delta_rule/rule_backward.cuh"
#include "kernels/delta_rule/rule_forward.cuh"

namespace ksa::cuda {
namespace {

using cuda_delta::kThreads;
using cuda_delta::Rule;
using cuda_delta::ScanStates;
using delta_rule::BackwardScratch;
using delta_rule::ChunkCount;
using delta_rule::ForwardScratch;
using delta_rule::RuleScratch;

// Terms of a product's factors: fp32 needs the three of them, of bf16 one is whole.
template <typename T>
inline constexpr int kTermsOf = std::is_same_v<T, float> ? 3 : 1;

// `values`: columns of v, of the states' where there is no v.
template <typename T, typename Args>
Rule<T> MakeRule(const Args& args, int64_t values, const RuleScratch& scratch) {
  Rule<T> rule = {.layout = args.layout,
                  .k = args.k.template As<T>(),
                  .g = args.g.template As<float>(),
                  .beta = args.beta.template As<float>(),
                  .key_heads = static_cast<int>(args.k.shape[1]),
                  .value_heads = static_cast<int>(args.g.shape[1]),
                  .dk = static_cast<int>(args.k.shape[2]),
                  .dv = static_cast<int>(values),
                  .counts = delta_rule::ChunkCounts(args.layout),
                  .scale = 1.0F / std::sqrt(static_cast<float>(args.k.shape[2]))};
  const auto memory = [](const Tensor& x) { return x.empty() ? nullptr : x.As<float>(); };
  rule.inverse = memory(scratch.inverse);
  rule.w = memory(scratch.w);
  rule.keys = memory(scratch.keys);
  rule.numbers = memory(scratch.numbers);
  rule.e = memory(scratch.e);
  rule.states = memory(scratch.states);
  rule.writes = memory(scratch.writes);
  rule.reads = memory(scratch.reads);
  rule.state_gradients = memory(scratch.state_gradients);
  rule.dq = memory(scratch.dq);
  rule.dk_of_head = memory(scratch.dk);
  return rule;
}

// A block for each chunk and value head.
LaunchShape OfChunks(const SummaryLayout& layout, int heads, size_t shared) {
  return {
      .grid = dim3(static_cast<unsigned>(ChunkCount(layout) * heads)), .block = dim3(kThreads), .shared_bytes = shared};
}

// A block for each slice, value head and kSmall columns.
LaunchShape OfScan(const SummaryLayout& layout, int heads, int columns, size_t shared) {
  return {.grid = dim3(static_cast<unsigned>((columns + cuda_delta::kSmall - 1) / cuda_delta::kSmall),
                       static_cast<unsigned>(heads),
                       static_cast<unsigned>(SliceCount(layout))),
          .block = dim3(kThreads),
          .shared_bytes = shared};
}

// The kernels of one type and one most number of columns of keys.
template <typename T, int kDk>
struct Kernels {
  static constexpr int kTerms = kTermsOf<T>;

  template <int kScanTerms = kTermsOf<T>>
  static void Scan(const char* op, const Rule<T>& rule, const ScanStates& states, const Stream& stream) {
    Launch(op,
           stream,
           OfChunks(rule.layout, rule.value_heads, sizeof(cuda_delta::PrepareShared<kDk>)),
           cuda_delta::PrepareKernel<T, kScanTerms, kDk>,
           rule);
    Launch(op,
           stream,
           OfScan(rule.layout, rule.value_heads, states.columns, sizeof(cuda_delta::ScanShared<kDk>)),
           cuda_delta::ScanKernel<T, kScanTerms, kDk>,
           rule,
           states);
  }

  static void Forward(const char* op, const GatedDeltaRuleForwardArgs& args, const Stream& stream) {
    const int64_t values = args.v.shape[2];
    const RuleScratch scratch = ForwardScratch(op, args, values, !args.out.empty());
    Rule<T> rule = MakeRule<T>(args, values, scratch);
    rule.v = args.v.As<T>();
    Scan(op,
         rule,
         {args.initial_state.As<float>(), args.final_state.As<float>(), static_cast<int>(values), false},
         stream);
    if (args.out.empty()) {
      return;
    }
    rule.q = args.q.As<T>();
    Launch(op,
           stream,
           OfChunks(rule.layout, rule.value_heads, sizeof(cuda_delta::OutputShared<kDk>)),
           cuda_delta::OutputKernel<T, kTerms, kDk>,
           rule,
           args.out.As<T>());
  }

  static void Transition(const char* op, const GatedDeltaRuleTransitionArgs& args, const Stream& stream) {
    const RuleScratch scratch = ForwardScratch(op, args, 0, false);
    const Rule<T> rule = MakeRule<T>(args, args.k.shape[2], scratch);
    Scan<3>(op, rule, {nullptr, args.transition.As<float>(), rule.dk, true}, stream);  // they are multiplied in a chain
  }

  static void Backward(const char* op, const GatedDeltaRuleBackwardArgs& args, const Stream& stream) {
    const RuleScratch scratch = BackwardScratch(args);
    const auto columns = static_cast<int>(args.v.shape[2]);
    Rule<T> rule = MakeRule<T>(args, columns, scratch);
    rule.q = args.q.As<T>();
    rule.v = args.v.As<T>();
    const T* dout = args.dout.As<T>();
    Scan(op, rule, {args.initial_state.As<float>(), nullptr, columns, false}, stream);
    Launch(op,
           stream,
           OfChunks(rule.layout, rule.value_heads, sizeof(cuda_delta::WritesShared<kDk>)),
           cuda_delta::WritesKernel<T, kTerms, kDk>,
           rule,
           dout);
    Launch(op,
           stream,
           OfScan(rule.layout, rule.value_heads, columns, sizeof(cuda_delta::BackScanShared<kDk>)),
           cuda_delta::BackScanKernel<T, kTerms, kDk>,
           rule,
           ScanStates{args.dfinal_state.As<float>(), args.dinitial_state.As<float>(), columns, false});
    if (args.dq.empty()) {
      return;
    }
    Launch(op,
           stream,
           OfChunks(rule.layout, rule.value_heads, sizeof(cuda_delta::GradientShared<kDk>)),
           cuda_delta::GradientKernel<T, kTerms, kDk>,
           rule,
           dout,
           args.dv.As<T>(),
           args.dg.As<float>(),
           args.dbeta.As<float>());
    Launch(op,
           stream,
           OfChunks(rule.layout, rule.key_heads, 0),
           cuda_delta::AddHeadsKernel<T>,
           rule,
           args.dq.As<T>(),
           args.dk.As<T>());
  }
};

// Calls run.operator()<T, kDk>() with the columns that keys are filled up to.
template <typename Args, typename Run>
void WithKernels(const char* op, const Args& args, const Run& run) {
  const int64_t dk = args.k.shape[2];
  KSA_CHECK(
      dk <= delta_rule::kMostKeyColumns, "{}: keys of {} columns; a GPU takes {}", op, dk, delta_rule::kMostKeyColumns);
  DispatchGpu(args.k.dtype, [&](auto element) {
    using T = decltype(element);
    if (delta_rule::FilledKeys(dk) == 64) {
      run.template operator()<T, 64>();
    } else {
      run.template operator()<T, 128>();
    }
  });
}

constexpr int kTile = 16;

// out = transition · state + add, or with the transposed transition: a tile of one head a block.
__global__ void __launch_bounds__(kTile* kTile) StateStepKernel(
    const float* transition, const float* state, const float* add, float* out, int dk, int dv, bool transposed) {
  __shared__ float left[kTile][kTile + 1];
  __shared__ float right[kTile][kTile + 1];
  const int x = static_cast<int>(threadIdx.x);
  const int y = static_cast<int>(threadIdx.y);
  const int row = static_cast<int>(blockIdx.y) * kTile + y;
  const int column = static_cast<int>(blockIdx.x) * kTile + x;
  const int64_t head = blockIdx.z;
  transition += head * dk * dk;
  state += head * dk * dv;
  float sum = 0.0F;
  for (int k = 0; k < dk; k += kTile) {
    const bool there = row < dk && k + x < dk;
    left[y][x] = there ? transition[transposed ? (k + x) * dk + row : row * dk + k + x] : 0.0F;
    right[y][x] = k + y < dk && column < dv ? state[(k + y) * dv + column] : 0.0F;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      sum += left[y][i] * right[i][x];
    }
    __syncthreads();
  }
  if (row < dk && column < dv) {
    const int64_t at = head * dk * dv + int64_t{1} * row * dv + column;
    out[at] = add[at] + sum;
  }
}

}  // namespace

void GatedDeltaRuleForward(const GatedDeltaRuleForwardArgs& args, const Stream& stream) {
  constexpr const char* kOp = "GatedDeltaRuleForward";
  WithKernels(kOp, args, [&]<typename T, int kDk>() { Kernels<T, kDk>::Forward(kOp, args, stream); });
}

void GatedDeltaRuleTransition(const GatedDeltaRuleTransitionArgs& args, const Stream& stream) {
  constexpr const char* kOp = "GatedDeltaRuleTransition";
  WithKernels(kOp, args, [&]<typename T, int kDk>() { Kernels<T, kDk>::Transition(kOp, args, stream); });
}

void GatedDeltaRuleBackward(const GatedDeltaRuleBackwardArgs& args, const Stream& stream) {
  constexpr const char* kOp = "GatedDeltaRuleBackward";
  WithKernels(kOp, args, [&]<typename T, int kDk>() { Kernels<T, kDk>::Backward(kOp, args, stream); });
}

void DeltaStateStep(const DeltaStateStepArgs& args, const Stream& stream) {
  const auto dk = static_cast<int>(args.state.shape[1]);
  const auto dv = static_cast<int>(args.state.shape[2]);
  const auto tiles = [](int64_t size) { return static_cast<unsigned>((size + kTile - 1) / kTile); };
  const LaunchShape shape = {.grid = dim3(tiles(dv), tiles(dk), static_cast<unsigned>(args.state.shape[0])),
                             .block = dim3(kTile, kTile)};
  Launch("DeltaStateStep",
         stream,
         shape,
         StateStepKernel,
         args.transition.As<float>(),
         args.state.As<float>(),
         args.add.As<float>(),
         args.out.As<float>(),
         dk,
         dv,
         args.transposed);
}

}  // namespace ksa::cuda
