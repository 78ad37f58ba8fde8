// Files of format ksa-golden-train-1: updates of a model with the trainer's own schedule and optimizer.
#include <fmt/core.h>

#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "parallel/comm/communicator.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"
#include "trainer/config/load.h"
#include "trainer/optim/optimizer.h"
#include "trainer/optim/schedule.h"

namespace ksa::testing {
namespace {

constexpr double kBound = 1e-9;

// The run's configuration as a user would write it, from the file's attributes.
Config ReadConfig(const H5Reader& file, const H5Reader::Dataset& tokens, int32_t micro_batch_size, DType dtype) {
  const std::string text = fmt::format(
      R"({{"run": {{"name": "golden"}}, "data": {{"train": [{{"path": "golden"}}]}}, "model": {}, "optimizer": {},
          "schedule": {}, "training": {{"sequence_length": {}, "global_batch_size": {}, "micro_batch_size": {},
          "max_steps": {}, "precision": "{}"}}}})",
      file.TextAttribute("/", "config"),
      file.TextAttribute("/", "optimizer"),
      file.TextAttribute("/", "schedule"),
      tokens.shape.at(2) - 1,
      tokens.shape.at(1),
      micro_batch_size,
      file.IntegerAttribute("/", "max_steps"),
      NameOf(dtype));
  return ParseConfig(text, "attributes").config;
}

class TrainRun {
 public:
  TrainRun(const H5Reader& file, int32_t micro_batch_size, const GoldenRun& run, Report& report)
      : file_(file),
        report_(report),
        run_(run),
        tokens_(file.Read("/input/token_ids")),
        config_(ReadConfig(file, tokens_, micro_batch_size, run.dtype)),
        store_(ParameterSpecs(config_.model), run.dtype, *run.place.memory, {}, run.place.stream),
        model_(config_.model, store_, *run.place.memory, run.place.stream, config_.training.sequence_length),
        world_(MakeSelfCommunicator()),
        mesh_(*world_, {}),
        optimizer_(config_.optimizer, store_, mesh_, *run.place.memory, run.place.stream) {}

  void Run() {
    if (!LoadWeights(file_, "/weights", store_, run_, report_)) {
      return;
    }
    std::vector<double> losses;
    std::vector<double> norms;
    std::vector<double> rates;
    for (int64_t update = 1; update <= config_.training.max_steps; ++update) {
      optimizer_.BeginUpdate(run_.place.stream);
      double loss = 0.0;
      for (int32_t first = 0; first < config_.training.global_batch_size; first += *config_.training.micro_batch_size) {
        loss += MicroBatch(update, first);
      }
      losses.push_back(loss);
      rates.push_back(LearningRate(config_.optimizer, config_.schedule, config_.training.max_steps, update));
      norms.push_back(optimizer_.Step(rates.back(), update, run_.place.stream).grad_norm);
    }
    Compare("losses", "", losses, "/output/loss");
    Compare("norms", "", norms, "/output/grad_norm");
    report_.Compare("learning rates", "", rates, file_.Values("/output/learning_rate"), kBound);
    CompareState("weights", store_.master());
    CompareState("exp_avg", store_.exp_avg());
    CompareState("exp_avg_sq", store_.exp_avg_sq());
  }

 private:
  // Forward and backward of sequences [first, first + micro_batch_size) of an update; their part of its mean loss.
  double MicroBatch(int64_t update, int32_t first) {
    const int32_t count = *config_.training.micro_batch_size;
    const int32_t length = config_.training.sequence_length;
    const Tensor ids = Tensor::Empty({int64_t{1} * count * length}, DType::kI32, host_);
    const Tensor targets = Tensor::Empty(ids.shape(), DType::kI32, host_);
    for (int32_t s = 0; s < count; ++s) {
      const int64_t sequence = (update - 1) * config_.training.global_batch_size + first + s;
      for (int32_t i = 0; i < length; ++i) {
        const size_t at = static_cast<size_t>(sequence * (length + 1) + i);
        ids.As<int32_t>()[s * length + i] = static_cast<int32_t>(tokens_.values[at]);
        targets.As<int32_t>()[s * length + i] = static_cast<int32_t>(tokens_.values[at + 1]);
      }
    }
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = run_.place.stream, .allocator = run_.place.memory};
    KsaModel::Input input;
    input.ids = ToPlace(ids, run_.place);
    input.layout = MakeLayout(config_.model, count, length);
    input.mix = AnnealMix(config_.model, update);
    const double scale = 1.0 / (static_cast<double>(config_.training.global_batch_size) * length);
    const CrossEntropyResult loss = model_.Loss(cx, model_.Hidden(cx, input), ToPlace(targets, run_.place), scale);
    tape.Backward(cx, loss.loss_sum, Tensor());
    return ValuesOf(loss.loss_sum.value, cx.stream)[0] * scale;
  }

  void CompareState(const std::string& kind, const TensorView& flat) {
    for (const Parameter& parameter : store_.parameters()) {
      const std::string& name = parameter.spec.name;
      const TensorView values = flat.Rows(parameter.offset, parameter.spec.shape.size());
      Compare(kind, name, ValuesOf(values, run_.place.stream), "/final/" + kind + "/" + name);
    }
  }

  void Compare(const std::string& quantity,
               const std::string& tensor,
               const std::vector<double>& actual,
               const std::string& path) {
    report_.Compare(quantity, tensor, actual, file_.Values(path), run_.Bound(quantity, tensor, kBound));
  }

  const H5Reader& file_;
  Report& report_;
  GoldenRun run_;
  GuardAllocator host_;
  H5Reader::Dataset tokens_;  // [updates, sequences, T + 1]
  Config config_;
  ParameterStore store_;
  KsaModel model_;
  std::unique_ptr<Communicator> world_;
  ProcessMesh mesh_;
  Optimizer optimizer_;
};

}  // namespace

void RunTrainFile(const H5Reader& file, int32_t micro_batch_size, const GoldenRun& run, Report& report) {
  TrainRun(file, micro_batch_size, run, report).Run();
}

}  // namespace ksa::testing
