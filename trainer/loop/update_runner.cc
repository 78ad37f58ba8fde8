#include "trainer/loop/update_runner.h"

#include <utility>

#include <xxhash.h>

#include "kernels/core/error.h"
#include "trainer/observe/device_peaks.h"
#include "trainer/observe/trace.h"
#include "trainer/optim/schedule.h"

namespace ksa {
namespace {

std::optional<double> PeakOfRank(const Runtime& runtime, DType precision) {
  return runtime.gpu().has_value() ? PeakFlops(runtime.gpu()->name, precision) : std::nullopt;
}

UpdateShare ShareOf(const Config& config, const ProcessMesh& mesh) {
  const int64_t count = config.training.global_batch_size / mesh.shape().data;
  return {config.training.global_batch_size, mesh.Rank(MeshAxis::kData) * count, count};
}

}  // namespace

int64_t TokensAnUpdate(const Config& config) {
  return int64_t{1} * config.training.global_batch_size * config.training.sequence_length;
}

UpdateRunner::UpdateRunner(const Config& config,
                           Runtime& runtime,
                           const Dataset& dataset,
                           TrainingState& state,
                           Logger& logger,
                           const UpdateSpan& span,
                           std::string host)
    : config_(config),
      runtime_(runtime),
      state_(state),
      logger_(logger),
      span_(span),
      host_(std::move(host)),
      peak_flops_(PeakOfRank(runtime, *config.training.precision)),
      flops_(config.model),
      progress_(TokensAnUpdate(config), span.last, peak_flops_),
      batches_(dataset, ShareOf(config, runtime.mesh()), span.done + 1, span.last),
      skips_(config.training, span.skips),
      done_(span.done) {}

// Ranks that share sequences read them each for itself. Where samples that touch a damaged block lose their targets, a
// shard that is damaged on one host only would make them train on different sums.
void UpdateRunner::CheckSameTargets(const Batch& batch, int64_t update) {
  const ProcessMesh& mesh = runtime_.mesh();
  if (config_.data.on_corrupt != OnCorrupt::kSkip) {
    return;
  }
  const auto digest =
      static_cast<int64_t>(XXH3_64bits(batch.targets.data(), batch.targets.size() * sizeof(int32_t)) >> 1U);
  for (const MeshAxis axis : {MeshAxis::kContext, MeshAxis::kTensor}) {
    if (mesh.group(axis).Max(digest) != digest) {  // so on some rank, which ends all, unless all are equal
      Fail(
          ExitCode::kBadData,
          "update {}: ranks that share these sequences read different ones; rank {} on {} left out {} of {} samples "
          "that touch damaged blocks (data.on_corrupt: skip). A copy of a shard is damaged on some hosts only: compare "
          "`ksa data verify` there, and copy it anew",
          update,
          runtime_.world().rank(),
          host_,
          batch.corrupt_samples,
          batch.samples);
    }
  }
}

StepReport UpdateRunner::Next() {
  const int64_t update = done_ + 1;
  runtime_.BeginUpdate(update);
  const Batch& batch = batches_.Next();
  CheckSameTargets(batch, update);
  const double lr = LearningRate(config_.optimizer, config_.schedule, config_.training.max_steps, update);
  const UpdateOutcome outcome = RunTraced(batch, update, lr);
  if (outcome.applied) {
    skips_.Applied(outcome.grad_norm);
  } else {
    Skip(update, outcome);
  }
  done_ = update;
  // The batch is that of all ranks that share its sequences.
  const int ranks = runtime_.mesh().Size(MeshAxis::kContext) * runtime_.mesh().Size(MeshAxis::kTensor);
  progress_.Add(
      batches_.last_wait_ms(), outcome.comm_ms, peak_flops_.has_value() ? flops_.Forward(batch) / ranks : 0.0);
  StepReport report = {.step = update,
                       .max_steps = config_.training.max_steps,
                       .tokens = update * TokensAnUpdate(config_),
                       .loss = outcome.loss,
                       .grad_norm = outcome.grad_norm,
                       .lr = lr,
                       .loss_terms = outcome.terms,
                       .max_logit = outcome.largest_logit,
                       .max_attention_lse = outcome.largest_attention};
  for (size_t s = 0; s < outcome.source_loss.size(); ++s) {
    report.loss_by_source[config_.data.train[s].name] = outcome.source_loss[s];
  }
  return report;
}

// One update; a trace of it is written when it is the one that was asked for.
UpdateOutcome UpdateRunner::RunTraced(const Batch& batch, int64_t update, double lr) {
  if (update != span_.traced) {
    return state_.updater.Run(batch, update, lr, skips_.most_norm());
  }
  ChromeTrace trace;
  runtime_.SetTracer(&trace);
  const UpdateOutcome outcome = state_.updater.Run(batch, update, lr, skips_.most_norm());
  runtime_.SetTracer(nullptr);
  if (runtime_.world().rank() == 0) {
    trace.Write(span_.trace);
    logger_.Info(fmt::format("trace of update {}: {}", update, span_.trace));
  }
  return outcome;
}

void UpdateRunner::FillTiming(StepReport& report) {
  progress_.Fill(report);
  const MemoryStatus memory = runtime_.Memory();
  report.memory = memory.used;
  report.memory_total = memory.total;
}

// It counts as done: its samples, its learning rate. Weights and moments are as before.
void UpdateRunner::Skip(int64_t update, const UpdateOutcome& outcome) {
  const double most = skips_.most_norm();
  if (!skips_.Skipped(outcome.finite)) {
    FailDiverged(update, outcome);
  }
  if (runtime_.world().rank() == 0) {
    const int64_t batch = config_.training.global_batch_size;
    const std::string why =
        outcome.finite
            ? fmt::format(
                  "gradient norm {:.4g} is above {:.4g}, training.spike_factor x the median", outcome.grad_norm, most)
            : fmt::format("loss {}, gradient norm {}", outcome.loss, outcome.grad_norm);
    logger_.Warn(fmt::format("update {} was skipped: {}; on samples {} to {} of the run; {} of at most {} in a row",
                             update,
                             why,
                             (update - 1) * batch,
                             update * batch - 1,
                             skips_.in_a_row(),
                             config_.training.max_skips));
  }
}

void UpdateRunner::FailDiverged(int64_t update, const UpdateOutcome& outcome) const {
  const int64_t batch = config_.training.global_batch_size;
  if (skips_.in_a_row() > config_.training.max_skips) {
    Fail(ExitCode::kDiverged,
         "training diverged at update {}: loss {}, gradient norm {}, on samples {} to {} of the run; {} updates in a "
         "row would be skipped, training.max_skips allows {}; lower optimizer.lr or look at these "
         "samples, then start again from the last checkpoint",
         update,
         outcome.loss,
         outcome.grad_norm,
         (update - 1) * batch,
         update * batch - 1,
         skips_.in_a_row(),
         config_.training.max_skips);
  }
  Fail(ExitCode::kDiverged,
       "training diverged at update {}: loss {}, gradient norm {}, on samples {} to {} of the run; the update was not "
       "applied; lower optimizer.lr or look at these samples, then start again from the last checkpoint",
       update,
       outcome.loss,
       outcome.grad_norm,
       (update - 1) * batch,
       update * batch - 1);
}

}  // namespace ksa
