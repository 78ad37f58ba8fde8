#include "trainer/step/update.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/op.h"

namespace ksa {

Updater::Updater(Runtime& runtime, KsaModel& model, Optimizer& optimizer, int32_t micro_batch_size, Recompute recompute)
    : runtime_(runtime),
      model_(model),
      optimizer_(optimizer),
      micro_batch_size_(micro_batch_size),
      recompute_(recompute) {}

UpdateOutcome Updater::Run(const Batch& batch, int64_t update, double lr, double most_norm) {
  const int64_t targets = runtime_.mesh().group(MeshAxis::kData).Sum(batch.target_count);
  const double grad_scale = targets > 0 ? 1.0 / static_cast<double>(targets) : 0.0;
  optimizer_.BeginUpdate(runtime_.stream());
  AccumulateGradients(batch, AnnealMix(model_.config(), update), grad_scale, optimizer_.takes_progress());
  runtime_.Enter(Phase::kUpdate);
  MarkStep(runtime_.stream(), StepMark::kUpdate);
  const UpdateResult result = optimizer_.Step(lr, update, runtime_.stream(), most_norm);
  return {.loss = result.loss_sum * grad_scale,
          .grad_norm = result.grad_norm,
          .finite = std::isfinite(result.loss_sum) && std::isfinite(result.grad_norm),
          .applied = result.applied,
          .comm_ms = result.comm_ms};
}

void Updater::RunGradients(const Batch& batch) {
  optimizer_.BeginUpdate(runtime_.stream());
  AccumulateGradients(batch, 1.0, 1.0 / static_cast<double>(std::max<int64_t>(1, batch.target_count)), false);
}

void Updater::AccumulateGradients(const Batch& batch, double mix, double grad_scale, bool report) {
  ExecContext cx = runtime_.Context();
  cx.tape = &tape_;
  upload_.Load(cx, model_.config(), batch);
  for (int32_t first = 0; first < batch.samples; first += micro_batch_size_) {
    runtime_.Enter(Phase::kGradients);
    MarkStep(cx.stream, StepMark::kMicroBatch);
    const int32_t count = std::min(micro_batch_size_, batch.samples - first);
    const MicroBatch micro = upload_.Slice(first, count);
    KsaModel::Input input = {.ids = micro.ids, .layout = micro.layout, .mix = mix, .recompute = recompute_};
    if (report && first + count == batch.samples) {
      input.on_gradients = [&](int32_t layer) { optimizer_.OnGradients(layer, cx.stream); };
    }
    const Var hidden = model_.Hidden(cx, input);
    const CrossEntropyResult result = model_.Loss(cx, hidden, micro.targets, grad_scale, optimizer_.loss_sum());
    tape_.Backward(cx, result.loss_sum, Tensor());
    tape_.Clear();
  }
}

}  // namespace ksa
