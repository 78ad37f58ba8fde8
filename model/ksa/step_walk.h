// One rank's way through an update: forward, recompute and backward of every layer, then the sums of gradients, AdamW
// and the gathering of weights, in the order in which the run does them. Internal to step_estimate.cc.
#pragma once

#include <vector>

#include "model/autograd/parameter.h"
#include "model/ksa/layer_cost.h"
#include "model/ksa/step_estimate.h"
#include "model/ksa/step_traffic.h"
#include "model/mixers/mixer.h"

namespace ksa {

class StepWalk {
 public:
  StepWalk(const StepProblem& problem, const DeviceFigures& figures, int context, int tensor);

  [[nodiscard]] StepEstimate Run();

 private:
  struct Layer {
    LayerCost cost;
    RowCounts keys;
    RowCounts queries;
    Volume travelling;     // k, v by keys; one matrix of h·e columns by heads
    Volume travelling_kv;  // by heads: one matrix of g·e columns
    ContextPlan plan;      // empty on one context rank
    double head_parts = 1.0;
  };

  // Matrices that travel by heads in one pass.
  struct HeadCalls {
    int keys_gathered = 0;
    int keys_returned = 0;
    int queries_gathered = 0;
    int queries_returned = 0;
  };

  [[nodiscard]] Layer MakeLayer(int32_t layer) const;

  // --- accounts. `repeats`: how often an update does it.
  void Count(TrafficGroup group, CollectiveKind kind, int64_t sent, int64_t received, int64_t repeats);
  void Account(TrafficGroup group, double seconds, double exposed, int64_t repeats);
  [[nodiscard]] double SecondsOf(const Volume& volume) const;
  double Rows(double seconds);
  double Products(double seconds);
  // Beside `hide` seconds of other work; returns how long computation stands still.
  double Exchange(TrafficGroup group, const Volume& volume, double hide, int64_t repeats);
  // Counts its bytes and returns its seconds, which the caller accounts for.
  double Ring(TrafficGroup group, CollectiveKind kind, int64_t sent, int64_t received, int64_t repeats);

  // --- of a micro-batch: each accounts for what it does and returns its seconds
  double Enter(const RowCounts& rows, double products);
  double Reduce(const RowCounts& rows, double product);
  double EnterBackward(const RowCounts& rows, double weight_gradients);
  double AllReduceRows(const RowCounts& rows);
  double UnreadReduce(const RowCounts& rows);
  double Keys(const Layer& layer, double hide);
  double Heads(const Layer& layer, const HeadCalls& calls, double exposed);
  double ContextForward(const Layer& layer);
  double ContextReplay(const Layer& layer, double hide);
  double ContextBackward(const Layer& layer);

  void Forward(const Layer& layer);
  double Replay(const Layer& layer);
  double Backward(const Layer& layer);
  void EndsOfModel();

  // --- of an update
  void SumGradients(const std::vector<double>& backward);
  void UpdateWeights();

  [[nodiscard]] bool HasMlp() const { return problem_.model.intermediate_size > 0; }

  [[nodiscard]] bool RowsInParts() const { return problem_.sequence_parallel && problem_.mesh.tensor > 1; }

  [[nodiscard]] double OwnShare(const RowCounts& rows) const;
  [[nodiscard]] double EntryProducts(const Layer& layer) const;

  StepProblem problem_;
  DeviceFigures figures_;
  int context_;
  int tensor_;
  Topology topology_;
  ModelConfig share_;
  SummaryLayout whole_;
  SummaryLayout local_;
  FlatPlan plan_;
  int replicas_ = 1;
  int64_t element_ = 0;      // bytes of the compute type
  int64_t accumulator_ = 0;  // and of gradients
  StepEstimate estimate_;
};

}  // namespace ksa
