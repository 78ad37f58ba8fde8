#include "trainer/evaluate/validation.h"

#include <algorithm>
#include <utility>

#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"

namespace ksa {

double BatchEvaluator::Run(const Batch& batch, double mix, bool margins, const Visit& visit) {
  runtime_.Enter(Phase::kEvaluation);
  const ExecContext cx = runtime_.Context();
  upload_.Load(cx, model_.config(), batch);
  MicroBatch micro = upload_.Slice(0, batch.samples);
  micro.targets.margins = margins;
  const Var hidden = model_.Hidden(cx, {.ids = micro.ids, .layout = micro.layout, .mix = mix});
  const CrossEntropyResult result = model_.Loss(cx, hidden, micro.targets, 1.0);
  const double loss = *HostCopy(result.loss_sum.value, cx.stream).As<double>();
  const HostCopy row_loss(result.row_loss, cx.stream);
  const std::optional<HostCopy> margin =
      margins ? std::optional<HostCopy>(std::in_place, result.margin, cx.stream) : std::nullopt;
  DispatchAccumulator(result.row_loss.dtype(), [&](auto element) {
    using T = decltype(element);
    for (size_t i = 0; i < micro.target_rows.size(); ++i) {
      const SummaryLayout::Place at = micro.layout.Locate(micro.target_rows[i]);
      visit({.sample = at.sequence,
             .position = micro.layout.TokenAt(at.index),
             .loss = static_cast<double>(row_loss.As<T>()[i]),
             .margin = margin ? static_cast<double>(margin->As<T>()[i]) : 0.0});
    }
  });
  upload_.Release();  // updates find the memory that was planned for them
  return loss;
}

void BatchEvaluator::Add(const Batch& batch, int64_t first, double mix, EvaluationSums& sums) {
  sums.loss += Run(batch, mix, false, [&](const TargetResult& result) {
    sums.AddTarget(first + result.sample, result.position, result.loss);
  });
}

Evaluator::Evaluator(Runtime& runtime, KsaModel& model, const Dataset& dataset, int32_t micro_batch_size)
    : runtime_(runtime), dataset_(dataset), micro_batch_size_(micro_batch_size), evaluator_(runtime, model) {}

std::optional<EvaluationSums> Evaluator::Run(size_t source,
                                             const EvenSamples& samples,
                                             double mix,
                                             const Interrupted& interrupted) {
  EvaluationSums sums(dataset_.config().sequence_length, samples.taken);
  const ProcessMesh& mesh = runtime_.mesh();
  const int parts = mesh.Size(MeshAxis::kData);
  const EvenPart part(samples.taken, parts, mesh.Rank(MeshAxis::kData));
  const int64_t most = (samples.taken + parts - 1) / parts;  // of a rank: all go round equally often
  for (int64_t begin = 0; begin < most; begin += micro_batch_size_) {
    if (interrupted && interrupted()) {
      return std::nullopt;
    }
    const int64_t first = part.begin + begin;
    if (first < part.end) {
      dataset_.MakeValidationBatch(
          source, samples, first, std::min<int64_t>(micro_batch_size_, part.end - first), batch_);
      evaluator_.Add(batch_, first, mix, sums);
    }
  }
  if (mesh.Rank(MeshAxis::kTensor) > 0) {
    // Tensor ranks hold the same losses: one counts them.
    sums = EvaluationSums(dataset_.config().sequence_length, samples.taken);
  }
  sums.AddAllRanks(runtime_.world());
  return sums;
}

std::optional<std::vector<ValidationResult>> Evaluator::RunAll(std::optional<int64_t> wanted,
                                                               double mix,
                                                               const Interrupted& interrupted) {
  std::vector<ValidationResult> results;
  const std::vector<SourceInfo>& sources = dataset_.validation_sources();
  for (size_t i = 0; i < sources.size(); ++i) {
    const EvenSamples samples = sources[i].Take(wanted);
    const std::optional<EvaluationSums> sums = Run(i, samples, mix, interrupted);
    if (!sums) {
      return std::nullopt;
    }
    results.push_back({.name = sources[i].name,
                       .loss = sums->MeanLoss(),
                       .standard_error = sums->StandardError(),
                       .samples_read = samples.taken,
                       .samples_there = samples.there});
  }
  return results;
}

}  // namespace ksa
