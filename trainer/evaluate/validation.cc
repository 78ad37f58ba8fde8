#include "trainer/evaluate/validation.h"

#include <algorithm>

#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"

namespace ksa {
namespace {

// Adds the losses of the text rows that this rank holds to the sums by position. `targets`: of the whole sequences.
template <typename T>
void AddRowLosses(const T* row_loss, const int32_t* targets, const SummaryLayout& layout, EvaluationSums& sums) {
  for (int64_t row = 0; row < layout.text_rows(); ++row) {
    const SummaryLayout::Place at = layout.Locate(row);
    const int64_t position = layout.TokenAt(at.index);
    if (targets[at.sequence * layout.total() + position] >= 0) {
      sums.position_loss[static_cast<size_t>(position)] += static_cast<double>(row_loss[row]);
      ++sums.position_targets[static_cast<size_t>(position)];
      ++sums.targets;
    }
  }
}

TensorView ViewOf(std::vector<double>& values) {
  return {values.data(), DType::kF64, {}, {static_cast<int64_t>(values.size())}};
}

}  // namespace

void BatchEvaluator::Add(const Batch& batch, double mix, EvaluationSums& sums) {
  runtime_.Enter(Phase::kEvaluation);
  const ExecContext cx = runtime_.Context();
  upload_.Load(cx, model_.config(), batch);
  const MicroBatch micro = upload_.Slice(0, batch.samples);
  const Var hidden = model_.Hidden(cx, {.ids = micro.ids, .layout = micro.layout, .mix = mix});
  const CrossEntropyResult result = model_.Loss(cx, hidden, micro.targets, 1.0);
  sums.loss += *HostCopy(result.loss_sum.value, cx.stream).As<double>();
  const HostCopy row_loss(result.row_loss, cx.stream);
  DispatchAccumulator(result.row_loss.dtype(), [&](auto element) {
    AddRowLosses(row_loss.As<decltype(element)>(), batch.targets.data(), micro.layout, sums);
  });
  upload_.Release();  // updates find the memory that was planned for them
}

Evaluator::Evaluator(Runtime& runtime, KsaModel& model, const Dataset& dataset, int32_t micro_batch_size)
    : runtime_(runtime), dataset_(dataset), micro_batch_size_(micro_batch_size), evaluator_(runtime, model) {}

std::optional<EvaluationSums> Evaluator::Run(size_t source,
                                             int64_t samples,
                                             double mix,
                                             const Interrupted& interrupted) {
  EvaluationSums sums(dataset_.config().sequence_length);
  const ProcessMesh& mesh = runtime_.mesh();
  const int parts = mesh.Size(MeshAxis::kData);
  const EvenPart part(samples, parts, mesh.Rank(MeshAxis::kData));
  const int64_t most = (samples + parts - 1) / parts;  // of a rank: all go round equally often
  for (int64_t begin = 0; begin < most; begin += micro_batch_size_) {
    if (interrupted && interrupted()) {
      return std::nullopt;
    }
    const int64_t first = part.begin + begin;
    if (first < part.end) {
      dataset_.MakeValidationBatch(source, first, std::min<int64_t>(micro_batch_size_, part.end - first), batch_);
      evaluator_.Add(batch_, mix, sums);
    }
  }
  if (mesh.Rank(MeshAxis::kTensor) > 0) {
    sums = EvaluationSums(dataset_.config().sequence_length);  // tensor ranks hold the same losses: one counts them
  }
  Communicator& world = runtime_.world();
  sums.loss = world.Sum(sums.loss);
  sums.targets = world.Sum(sums.targets);
  world.AllReduceSum("validation loss by position", ViewOf(sums.position_loss), Stream{});
  world.AllReduceSum("validation targets by position", ViewOf(sums.position_targets), Stream{});
  return sums;
}

std::optional<std::map<std::string, double>> Evaluator::RunAll(int64_t batches,
                                                               int64_t global_batch_size,
                                                               double mix,
                                                               const Interrupted& interrupted) {
  std::map<std::string, double> losses;
  const std::vector<SourceInfo>& sources = dataset_.validation_sources();
  for (size_t i = 0; i < sources.size(); ++i) {
    const int64_t samples = ValidationSamples(sources[i].samples, batches, global_batch_size);
    const std::optional<EvaluationSums> sums = Run(i, samples, mix, interrupted);
    if (!sums) {
      return std::nullopt;
    }
    losses[sources[i].name] = sums->MeanLoss();
  }
  return losses;
}

}  // namespace ksa
