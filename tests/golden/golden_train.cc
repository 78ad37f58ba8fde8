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
Config ReadConfig(const H5Reader& file, int64_t sequences, int64_t tokens, int32_t micro_batch_size) {
  const std::string text = fmt::format(
      R"({{"run": {{"name": "golden"}}, "data": {{"train": [{{"path": "golden"}}]}}, "model": {}, "optimizer": {},
          "schedule": {}, "training": {{"sequence_length": {}, "global_batch_size": {}, "micro_batch_size": {},
          "max_steps": {}, "precision": "fp64"}}}})",
      file.TextAttribute("/", "config"),
      file.TextAttribute("/", "optimizer"),
      file.TextAttribute("/", "schedule"),
      tokens,
      sequences,
      micro_batch_size,
      file.IntegerAttribute("/", "max_steps"));
  return ParseConfig(text, "attributes").config;
}

class TrainRun {
 public:
  TrainRun(const H5Reader& file, int32_t micro_batch_size, Report& report)
      : file_(file),
        report_(report),
        tokens_(file.Read("/input/token_ids")),
        config_(ReadConfig(file, tokens_.shape.at(1), tokens_.shape.at(2) - 1, micro_batch_size)),
        store_(ParameterSpecs(config_.model), DType::kF64, allocator_),
        model_(config_.model, store_, allocator_, {}, config_.training.sequence_length),
        group_(MakeSelfCommunicator()),
        optimizer_(config_.optimizer, store_, *group_, allocator_) {}

  void Run() {
    LoadWeights(file_, "/weights", store_, report_);
    if (!report_.FoundNothing()) {
      return;
    }
    std::vector<double> losses;
    std::vector<double> norms;
    std::vector<double> rates;
    for (int64_t update = 1; update <= config_.training.max_steps; ++update) {
      optimizer_.BeginUpdate({});
      double loss = 0.0;
      for (int32_t first = 0; first < config_.training.global_batch_size; first += config_.training.micro_batch_size) {
        loss += MicroBatch(update, first);
      }
      losses.push_back(loss);
      rates.push_back(LearningRate(config_.optimizer, config_.schedule, config_.training.max_steps, update));
      norms.push_back(optimizer_.Step(rates.back(), update, {}).grad_norm);
    }
    report_.Compare("losses", "", losses, file_.Values("/output/loss"), kBound);
    report_.Compare("norms", "", norms, file_.Values("/output/grad_norm"), kBound);
    report_.Compare("learning rates", "", rates, file_.Values("/output/learning_rate"), kBound);
    CompareState("weights", store_.master());
    CompareState("exp_avg", store_.exp_avg());
    CompareState("exp_avg_sq", store_.exp_avg_sq());
  }

 private:
  // Forward and backward of sequences [first, first + micro_batch_size) of an update; their part of its mean loss.
  double MicroBatch(int64_t update, int32_t first) {
    const int32_t count = config_.training.micro_batch_size;
    const int32_t length = config_.training.sequence_length;
    const Tensor ids = Tensor::Empty({int64_t{1} * count * length}, DType::kI32, allocator_);
    const Tensor targets = Tensor::Empty(ids.shape(), DType::kI32, allocator_);
    for (int32_t s = 0; s < count; ++s) {
      const int64_t sequence = (update - 1) * config_.training.global_batch_size + first + s;
      for (int32_t i = 0; i < length; ++i) {
        const size_t at = static_cast<size_t>(sequence * (length + 1) + i);
        ids.As<int32_t>()[s * length + i] = static_cast<int32_t>(tokens_.values[at]);
        targets.As<int32_t>()[s * length + i] = static_cast<int32_t>(tokens_.values[at + 1]);
      }
    }
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = {}, .allocator = &allocator_};
    KsaModel::Input input;
    input.ids = ids;
    input.layout = MakeLayout(config_.model, count, length);
    input.mix = AnnealMix(config_.model, update);
    const double scale = 1.0 / (static_cast<double>(config_.training.global_batch_size) * length);
    const CrossEntropyResult loss = model_.Loss(cx, model_.Hidden(cx, input), targets, scale);
    tape.Backward(cx, loss.loss_sum, Tensor());
    return ElementAt(loss.loss_sum.value, 0) * scale;
  }

  void CompareState(const std::string& kind, const TensorView& flat) {
    for (const Parameter& parameter : store_.parameters()) {
      report_.Compare(kind,
                      parameter.spec.name,
                      ToDouble(flat.Rows(parameter.offset, parameter.spec.shape.size())),
                      file_.Values("/final/" + kind + "/" + parameter.spec.name),
                      kBound);
    }
  }

  const H5Reader& file_;
  Report& report_;
  GuardAllocator allocator_;
  H5Reader::Dataset tokens_;  // [updates, sequences, T + 1]
  Config config_;
  ParameterStore store_;
  KsaModel model_;
  std::unique_ptr<Communicator> group_;
  Optimizer optimizer_;
};

}  // namespace

void RunTrainFile(const H5Reader& file, int32_t micro_batch_size, Report& report) {
  TrainRun(file, micro_batch_size, report).Run();
}

}  // namespace ksa::testing
