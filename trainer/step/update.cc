#include "trainer/step/update.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"
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
          .comm_ms = result.comm_ms,
          .source_loss = sources_ > 1 ? LossBySource(batch) : std::vector<double>()};
}

// Sums on the host, over all ranks: tensor ranks hold the same losses, of which one counts them.
std::vector<double> Updater::LossBySource(const Batch& batch) {
  if (runtime_.stream().dry) {
    return {};
  }
  std::vector<double> sums(static_cast<size_t>(2 * sources_));  // losses, then targets
  for (const RowLosses& part : row_losses_) {
    if (runtime_.mesh().Rank(MeshAxis::kTensor) > 0) {
      break;
    }
    const HostCopy copy(part.losses, runtime_.stream());
    DispatchAccumulator(part.losses.dtype(), [&](auto element) {
      const auto* losses = copy.As<decltype(element)>();
      for (size_t i = 0; i < part.samples.size(); ++i) {
        const auto source = static_cast<size_t>(batch.source[static_cast<size_t>(part.samples[i])]);
        sums[source] += static_cast<double>(losses[i]);
        sums[static_cast<size_t>(sources_) + source] += 1;
      }
    });
  }
  runtime_.world().AllReduceSum("loss by source", {sums.data(), DType::kF64, {}, {2 * sources_}}, Stream{});
  std::vector<double> means;
  for (int64_t s = 0; s < sources_; ++s) {
    means.push_back(sums[static_cast<size_t>(s)] / sums[static_cast<size_t>(sources_ + s)]);  // NaN: no target
  }
  return means;
}

void Updater::RunGradients(const Batch& batch) {
  optimizer_.BeginUpdate(runtime_.stream());
  AccumulateGradients(batch, 1.0, 1.0 / static_cast<double>(std::max<int64_t>(1, batch.target_count)), false);
}

void Updater::AccumulateGradients(const Batch& batch, double mix, double grad_scale, bool report) {
  ExecContext cx = runtime_.Context();
  cx.tape = &tape_;
  row_losses_.clear();
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
    if (sources_ > 1) {
      RowLosses losses = {result.row_loss, {}};
      for (const int32_t row : micro.target_rows) {
        losses.samples.push_back(row / static_cast<int32_t>(micro.ids.size() / count));  // its sample
      }
      row_losses_.push_back(std::move(losses));
    }
    tape_.Backward(cx, result.loss_sum, Tensor());
    tape_.Clear();
  }
}

}  // namespace ksa
