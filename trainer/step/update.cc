#include "trainer/step/update.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"
#include "kernels/core/op.h"

namespace ksa {

namespace {

// Text of a batch: padding between documents is none.
int64_t TextRows(const Batch& batch) {
  return batch.chunk_tokens.empty() ? int64_t{1} * batch.samples * batch.sequence_length
                                    : std::accumulate(batch.chunk_tokens.begin(), batch.chunk_tokens.end(), int64_t{0});
}

// Layers in which summary rows attend: whose outputs are pulled to the teacher's.
int64_t PulledLayers(const ModelConfig& config) {
  int64_t layers = 0;
  for (int32_t i = 0; i < config.num_hidden_layers; ++i) {
    layers += config.SummariesAttend(i) ? 1 : 0;
  }
  return layers;
}

}  // namespace

Updater::Updater(Runtime& runtime,
                 KsaModel& model,
                 Optimizer& optimizer,
                 int32_t micro_batch_size,
                 Recompute recompute,
                 const Objective& objective)
    : runtime_(runtime),
      model_(model),
      optimizer_(optimizer),
      micro_batch_size_(micro_batch_size),
      recompute_(recompute),
      objective_(objective) {}

Updater::Scales Updater::ScalesOf(int64_t targets, int64_t text_rows) const {
  Scales scales;
  if (targets > 0) {
    const ModelConfig& config = model_.config();
    const int64_t elements = PulledLayers(config) * text_rows * config.hidden_size;
    scales.targets = 1.0 / static_cast<double>(targets);
    scales.attention = elements > 0 ? 1.0 / static_cast<double>(elements) : 0.0;
  }
  return scales;
}

UpdateOutcome Updater::Run(const Batch& batch, int64_t update, double lr, double most_norm) {
  Communicator& data = runtime_.mesh().group(MeshAxis::kData);
  const int64_t targets = data.Sum(batch.target_count);
  const Scales scales = ScalesOf(targets, objective_.distill ? data.Sum(TextRows(batch)) : 0);
  optimizer_.BeginUpdate(runtime_.stream());
  AccumulateGradients(batch, AnnealMix(model_.config(), update), scales, optimizer_.takes_progress());
  runtime_.Enter(Phase::kUpdate);
  MarkStep(runtime_.stream(), StepMark::kUpdate);
  UpdateOutcome outcome = OutcomeOf(optimizer_.Step(lr, update, runtime_.stream(), most_norm), scales);
  if (sources_ > 1) {
    outcome.source_loss = LossBySource(batch);
  }
  return outcome;
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

UpdateOutcome Updater::OutcomeOf(const UpdateResult& result, const Scales& scales) const {
  UpdateOutcome outcome = {.loss = result.loss_sum * scales.targets,
                           .terms = {},
                           .largest_logit = result.largest_logit,
                           .largest_attention = result.largest_attention,
                           .grad_norm = result.grad_norm,
                           .finite = std::isfinite(result.loss_sum) && std::isfinite(result.grad_norm),
                           .applied = result.applied,
                           .comm_ms = result.comm_ms,
                           .source_loss = {}};
  if (objective_.has_terms()) {
    outcome.terms["lm"] = result.lm_sum * scales.targets;
  }
  if (objective_.z_loss != 0.0) {
    outcome.terms["z"] = result.z_sum * scales.targets;
  }
  if (objective_.distill) {
    const double attention = result.attention_sum * scales.attention;
    outcome.terms["kl"] = result.kl_sum * scales.targets;
    outcome.terms["attention"] = attention;
    outcome.loss += objective_.distill->f_attn * attention;
  }
  return outcome;
}

void Updater::RunGradients(const Batch& batch) {
  optimizer_.BeginUpdate(runtime_.stream());
  AccumulateGradients(batch, 1.0, ScalesOf(std::max<int64_t>(1, batch.target_count), TextRows(batch)), false);
}

void Updater::AccumulateGradients(const Batch& batch, double mix, const Scales& scales, bool report) {
  ExecContext cx = runtime_.Context();
  cx.tape = &tape_;
  row_losses_.clear();
  cx.largest_attention = optimizer_.largest_attention();
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
    RunMicroBatch(cx, micro, count, input, scales);
  }
}

void Updater::RunMicroBatch(
    const ExecContext& cx, const MicroBatch& micro, int32_t count, KsaModel::Input& input, const Scales& scales) {
  KsaModel::Teaching teaching;
  if (objective_.distill) {
    teaching.scale = objective_.distill->f_attn * scales.attention;
    teaching.normalize = objective_.distill->normalize;
    teaching.sum = optimizer_.attention_sum();
    input.teaching = &teaching;
  }
  const Var hidden = model_.Hidden(cx, input);
  LossOptions options = {.grad_scale = scales.targets,
                         .loss_sum = optimizer_.loss_sum(),
                         .weights = objective_.weights(),
                         .teacher = std::move(teaching.hidden),
                         .largest = optimizer_.largest_logit()};
  if (objective_.has_terms()) {
    options.term_sums = optimizer_.term_sums();
  }
  const CrossEntropyResult result = model_.Loss(cx, hidden, micro.targets, std::move(options));
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

}  // namespace ksa
