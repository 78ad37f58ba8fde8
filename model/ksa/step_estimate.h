// A paper estimate of one update on any mesh: what a rank computes, what it sends and receives, what of that is hidden.
// Pure arithmetic over the plans that the run itself follows: KeysPlan, RowCounts, FlatPlan, CountLayerPairs.
//
// Bytes are exact: they equal what the groups' communicators count (device memory alone; host values are a few bytes).
// Times are those bytes and the model's FLOPs over the figures of a device, with these assumptions:
//   - sequences are whole documents; all ranks are as fast as each other and start an update together;
//   - every product and row-wise kernel runs at one rate, attention at one that depends on the keys of a query;
//   - links carry one group's collectives at a time, and hosts are connected without contention;
//   - a collective that runs beside computation takes DeviceFigures::sharing_share of it;
//   - left out: embedding and its gradient, the final norm, launches, the host (together below 2 % of the 1.9B model).
//
// What hides what is as implemented (docs/design): keys of other context ranks behind q's projection, their gradients
// behind its backward; rows of tensor ranks behind the products of a rank's own rows and behind gradients of weights;
// gradients of a bucket behind the backward of the layers before it in the last micro-batch; weights of a bucket behind
// AdamW of the next one.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/core/dtype.h"
#include "model/ksa/device_figures.h"
#include "model/mixers/model_config.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa {

struct StepProblem {
  ModelConfig model;
  int32_t sequence_length = 0;   // T
  int32_t micro_batch_size = 1;  // sequences
  int32_t micro_batches = 1;     // a data rank and update
  MeshShape mesh;
  bool sequence_parallel = false;
  bool zero = true;  // ZeRO-1
  Recompute recompute = Recompute::kNone;
  DType compute = DType::kBF16;
  int64_t bucket_elements = int64_t{64} << 20;
};

enum class TrafficGroup : int { kState, kContext, kTensor, kReplicas };
inline constexpr int kTrafficGroups = 4;

[[nodiscard]] const char* NameOf(TrafficGroup group);

// Of one group in one update. Seconds; exposed + hidden is the time in collectives.
struct Traffic {
  CommCounts counts{};  // sent and received; calls are not counted
  double exposed = 0.0;
  double hidden = 0.0;
};

struct StepEstimate {
  // Seconds of one update of a rank.
  double products = 0.0;  // recompute included
  double attention = 0.0;
  double rows = 0.0;
  double optimizer = 0.0;  // AdamW and the gradient norm
  double sharing = 0.0;    // what collectives take from computation beside them
  std::array<Traffic, kTrafficGroups> traffic{};
  double forward_flops = 0.0;  // useful, of all ranks and micro-batches

  [[nodiscard]] const Traffic& Of(TrafficGroup group) const { return traffic[static_cast<size_t>(group)]; }

  [[nodiscard]] double Exposed() const;
  [[nodiscard]] double Step() const;
};

// Of one rank: context rank `context`, tensor rank `tensor`, of the first data rank.
[[nodiscard]] StepEstimate EstimateRank(const StepProblem& problem,
                                        const DeviceFigures& figures,
                                        int context,
                                        int tensor);

// Of the slowest context rank; the last tensor rank, which has the largest parts.
[[nodiscard]] StepEstimate EstimateStep(const StepProblem& problem, const DeviceFigures& figures);

[[nodiscard]] double TokensPerSecond(const StepProblem& problem, const StepEstimate& estimate);

// Of the datasheet's peak of all GPUs, 0..1.
[[nodiscard]] double Utilisation(const StepProblem& problem,
                                 const DeviceFigures& figures,
                                 const StepEstimate& estimate);

}  // namespace ksa
