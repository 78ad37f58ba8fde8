#include "model/ksa/step_estimate.h"

#include "model/ksa/cost.h"
#include "model/ksa/step_walk.h"

namespace ksa {

const char* NameOf(TrafficGroup group) {
  switch (group) {
    case TrafficGroup::kState:
      return "data x context";
    case TrafficGroup::kContext:
      return "context";
    case TrafficGroup::kTensor:
      return "tensor";
    case TrafficGroup::kReplicas:
      return "replicas";
  }
  return "unknown";
}

double StepEstimate::Exposed() const {
  double sum = 0.0;
  for (const Traffic& group : traffic) {
    sum += group.exposed;
  }
  return sum;
}

double StepEstimate::Step() const {
  return products + attention + rows + optimizer + sharing + Exposed();
}

StepEstimate EstimateRank(const StepProblem& problem, const DeviceFigures& figures, int context, int tensor) {
  return StepWalk(problem, figures, context, tensor).Run();
}

StepEstimate EstimateStep(const StepProblem& problem, const DeviceFigures& figures) {
  const auto tensor = static_cast<int>(problem.mesh.tensor) - 1;
  StepEstimate slowest;
  for (int context = 0; context < problem.mesh.context; ++context) {
    const StepEstimate estimate = EstimateRank(problem, figures, context, tensor);
    slowest = estimate.Step() > slowest.Step() ? estimate : slowest;
  }
  return slowest;
}

double TokensPerSecond(const StepProblem& problem, const StepEstimate& estimate) {
  const int64_t sequences = problem.mesh.data * problem.micro_batches * problem.micro_batch_size;
  return static_cast<double>(sequences * problem.sequence_length) / estimate.Step();
}

double Utilisation(const StepProblem& problem, const DeviceFigures& figures, const StepEstimate& estimate) {
  const double peak = figures.peak_flops * static_cast<double>(problem.mesh.size());
  return Mfu(estimate.forward_flops, estimate.Step(), peak).value_or(0.0);
}

}  // namespace ksa
