#include "trainer/evaluate/task_evaluator.h"

#include <algorithm>
#include <utility>

#include "data/loader/batch_rows.h"

namespace ksa {

TaskEvaluator::TaskEvaluator(Runtime& runtime, KsaModel& model, const TaskToEvaluate& what, int32_t micro_batch_size)
    : runtime_(runtime),
      what_(what),
      stream_(what.task, what.name, TaskUse::kValidation, what.data, what.tokenizer),
      micro_batch_size_(micro_batch_size),
      answers_(static_cast<size_t>(what.samples)),
      evaluator_(runtime, model) {
  ResizeBatch(0, 1, what_.data, batch_);
  for (int64_t sample = 0; sample < what_.samples; ++sample) {
    std::vector<TaskAnswer>& answers = answers_[static_cast<size_t>(sample)];
    stream_.Fill(sample, 0, batch_, &answers);
    answers_a_sample_ = std::max(answers_a_sample_, answers.size());
  }
}

void TaskEvaluator::RunBatch(int64_t first, int64_t count, double mix, std::vector<double>& wrong) {
  constexpr size_t kNone = SIZE_MAX;
  const auto length = static_cast<size_t>(what_.data.sequence_length);
  ResizeBatch(first, count, what_.data, batch_);
  std::vector<size_t> answer_of_row(static_cast<size_t>(count) * length, kNone);
  for (int64_t i = 0; i < count; ++i) {
    stream_.Fill(first + i, i, batch_);
    const std::vector<TaskAnswer>& answers = answers_[static_cast<size_t>(first + i)];
    for (size_t a = 0; a < answers.size(); ++a) {
      const auto row = static_cast<size_t>(i) * length + static_cast<size_t>(answers[a].row);
      std::fill_n(answer_of_row.begin() + static_cast<std::ptrdiff_t>(row), answers[a].length, a);
    }
  }
  static_cast<void>(evaluator_.Run(batch_, mix, true, [&](const BatchEvaluator::TargetResult& result) {
    const size_t answer =
        answer_of_row[static_cast<size_t>(result.sample) * length + static_cast<size_t>(result.position)];
    const bool likeliest = result.margin >= 0;  // NaN is not
    if (answer != kNone && !likeliest) {
      wrong[static_cast<size_t>(first + result.sample) * answers_a_sample_ + answer] += 1;
    }
  }));
}

std::optional<TaskScores> TaskEvaluator::Run(double mix, const Evaluator::Interrupted& interrupted) {
  std::vector<double> wrong(answers_.size() * answers_a_sample_);
  const ProcessMesh& mesh = runtime_.mesh();
  const int parts = mesh.Size(MeshAxis::kData);
  const EvenPart part(what_.samples, parts, mesh.Rank(MeshAxis::kData));
  const int64_t most = (what_.samples + parts - 1) / parts;  // of a rank: all go round equally often
  for (int64_t begin = 0; begin < most; begin += micro_batch_size_) {
    if (interrupted && interrupted()) {
      return std::nullopt;
    }
    const int64_t first = part.begin + begin;
    if (first < part.end) {
      RunBatch(first, std::min<int64_t>(micro_batch_size_, part.end - first), mix, wrong);
    }
  }
  if (mesh.Rank(MeshAxis::kTensor) > 0) {  // tensor ranks have the same: one counts them
    std::fill(wrong.begin(), wrong.end(), 0.0);
  }
  const TensorView counts = {wrong.data(), DType::kF64, {}, {static_cast<int64_t>(wrong.size())}};
  runtime_.world().AllReduceSum("wrong answers", counts, Stream{});
  const TaskKind& kind = *FindTaskKind(what_.task.kind);
  TaskScores scores;
  for (size_t sample = 0; sample < answers_.size(); ++sample) {
    for (size_t a = 0; a < answers_[sample].size(); ++a) {
      scores.Add(kind, what_.data.sequence_length, answers_[sample][a], wrong[sample * answers_a_sample_ + a] == 0.0);
    }
  }
  return scores;
}

}  // namespace ksa
