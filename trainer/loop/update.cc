#include "trainer/loop/update.h"

#include <algorithm>
#include <cmath>

#include "trainer/loop/micro_batch.h"

namespace ksa {

Updater::Updater(Runtime& runtime, KsaModel& model, Optimizer& optimizer, int32_t micro_batch_size, Recompute recompute)
    : runtime_(runtime),
      model_(model),
      optimizer_(optimizer),
      micro_batch_size_(micro_batch_size),
      recompute_(recompute) {}

UpdateOutcome Updater::Run(const Batch& batch, int64_t update, double lr) {
  Communicator& world = runtime_.world();
  const int64_t targets = world.Sum(batch.target_count);
  const double grad_scale = targets > 0 ? 1.0 / static_cast<double>(targets) : 0.0;
  model_.store().BeginUpdate();
  const double local = AccumulateGradients(batch, AnnealMix(model_.config(), update), grad_scale);
  UpdateOutcome outcome;
  outcome.loss = world.Sum(local) * grad_scale;
  if (!std::isfinite(outcome.loss)) {
    outcome.finite = false;
    return outcome;
  }
  const UpdateResult result = optimizer_.Step(lr, update, runtime_.stream());
  outcome.grad_norm = result.grad_norm;
  outcome.finite = result.applied;
  outcome.comm_ms = result.comm_ms;
  return outcome;
}

double Updater::AccumulateGradients(const Batch& batch, double mix, double grad_scale) {
  ExecContext cx = runtime_.Context();
  cx.tape = &tape_;
  double loss = 0.0;
  for (int32_t first = 0; first < batch.samples; first += micro_batch_size_) {
    const int32_t count = std::min(micro_batch_size_, batch.samples - first);
    const MicroBatch micro = Slice(cx, model_.config(), batch, first, count);
    const Var hidden =
        model_.Hidden(cx, {.ids = micro.ids, .layout = micro.layout, .mix = mix, .recompute = recompute_});
    const CrossEntropyResult result = model_.Loss(cx, hidden, micro.targets, grad_scale);
    loss += *result.loss_sum.value.As<double>();
    tape_.Backward(cx, result.loss_sum, Tensor());
    tape_.Clear();
  }
  return loss;
}

}  // namespace ksa
