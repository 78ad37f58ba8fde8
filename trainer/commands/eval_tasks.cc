#include "trainer/commands/eval_tasks.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "model/ksa/cost.h"
#include "trainer/evaluate/cache_line.h"
#include "trainer/evaluate/task_evaluator.h"
#include "trainer/loop/trainer.h"
#include "trainer/observe/table.h"

namespace ksa {
namespace {

constexpr int64_t kSamples = 500;

// Tokens of a forward pass, so that short sequences go together: many are as quick as one.
constexpr int32_t kTokensAPass = 16384;

// The specification at every depth that was asked for.
std::vector<TaskSpec> AtDepths(const TaskSpec& spec, const std::vector<double>& depths) {
  if (depths.empty()) {
    return {spec};
  }
  const TaskKind& kind = *FindTaskKind(spec.kind);
  const TaskKey* key = kind.FindKey("depth");
  if (key == nullptr) {
    Fail(ExitCode::kUsage, "--depths: task {} has no depth; leave the option out", spec.kind);
  }
  std::vector<TaskSpec> specs;
  for (const double depth : depths) {
    if (const std::string problem = TaskValueProblem(*key, {depth}); !problem.empty()) {
      Fail(ExitCode::kUsage, "--depths: {}", problem);
    }
    specs.push_back(spec);
    specs.back().values["depth"] = {depth};
  }
  return specs;
}

void PrintScores(const TaskScores& scores) {
  for (const auto& [dimension, counts] : scores.by) {
    if (dimension == "length" && counts.size() == 1) {
      continue;
    }
    const bool ranges = dimension == "distance";
    Table table({{dimension, dimension}, {"accuracy", "accuracy", 4}, {"answers", "answers"}});
    for (const auto& [value, count] : counts) {
      table.AddRow({ranges ? fmt::format("{:.0f}-{:.0f}", value, 2 * value - 1) : fmt::format("{:.6g}", value),
                    count.Accuracy(),
                    count.answers});
    }
    fmt::print("\nby {}\n\n{}", dimension, table.Text());
  }
}

nlohmann::ordered_json JsonOf(const std::map<double, AnswerCount>& counts) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& [value, count] : counts) {
    list.push_back({{"value", value}, {"accuracy", count.Accuracy()}, {"targets", count.answers}});
  }
  return list;
}

void WriteJson(ResultFile& file,
               const EvalTaskOptions& options,
               const TaskScores& scores,
               int64_t samples,
               int64_t kv_bytes,
               double seconds) {
  nlohmann::ordered_json json = {{"task", options.task},
                                 {"samples", samples},
                                 {"accuracy", scores.all.Accuracy()},
                                 {"by", nlohmann::ordered_json::object()}};
  for (const auto& [dimension, counts] : scores.by) {
    json["by"][dimension] = JsonOf(counts);
  }
  for (const auto& [length, depths] : scores.by_length_and_depth) {
    json["by_length_and_depth"].push_back({{"length", length}, {"depths", JsonOf(depths)}});
  }
  json["kv_bytes"] = kv_bytes;
  json["seconds"] = seconds;
  file.Write(json.dump(2) + "\n");
}

class TaskEval {
 public:
  TaskEval(LoadedModel& loaded, const EvalTaskOptions& options)
      : loaded_(loaded),
        options_(options),
        samples_(options.samples > 0 ? options.samples : kSamples),
        specs_(AtDepths(ParseTaskSpec(options.task), options.depths)) {
    if (FindTaskKind(specs_.front().kind)->is_text) {
      tokenizer_ = loaded.OpenRunTokenizer();
    }
    lengths_ = options.lengths;
    if (lengths_.empty()) {
      lengths_ = {loaded.config().training.sequence_length};
    }
    const int64_t longest = loaded.config().model.max_position_embeddings;
    if (const int32_t most = *std::max_element(lengths_.begin(), lengths_.end()); most > longest) {
      Fail(ExitCode::kUsage, "--lengths: {} is beyond the model's {} positions", most, longest);
    }
    for (const int32_t length : lengths_) {  // what does not fit is said before the first pass
      for (const TaskSpec& spec : specs_) {
        static_cast<void>(TaskStream(spec, spec.kind, TaskUse::kValidation, DataOf(length), tokenizer_.get()));
      }
    }
  }

  TaskScores Run() {
    TaskScores scores;
    for (const int32_t length : lengths_) {
      const int32_t batch = options_.micro_batch_size.value_or(std::max(1, kTokensAPass / length));
      for (const TaskSpec& spec : specs_) {
        TaskEvaluator evaluator(loaded_.runtime(),
                                loaded_.model(),
                                {.task = spec,
                                 .name = spec.kind,
                                 .samples = samples_,
                                 .data = DataOf(length),
                                 .tokenizer = tokenizer_.get()},
                                batch);
        scores.Append(evaluator.Run(loaded_.mix()).value());
      }
    }
    return scores;
  }

  [[nodiscard]] int64_t samples() const { return samples_ * static_cast<int64_t>(lengths_.size() * specs_.size()); }

  [[nodiscard]] int32_t longest() const { return *std::max_element(lengths_.begin(), lengths_.end()); }

 private:
  [[nodiscard]] DatasetConfig DataOf(int32_t length) const {
    DatasetConfig data = DatasetConfigOf(loaded_.config());
    data.sequence_length = length;
    data.seed = options_.seed.value_or(data.seed);
    return data;
  }

  LoadedModel& loaded_;
  const EvalTaskOptions& options_;
  int64_t samples_;
  std::vector<TaskSpec> specs_;
  std::vector<int32_t> lengths_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace

void EvalTask(LoadedModel& loaded, const EvalTaskOptions& options, std::optional<ResultFile>& json) {
  const auto begin = std::chrono::steady_clock::now();
  TaskEval eval(loaded, options);
  const TaskScores scores = eval.Run();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  fmt::print("{}\n\n{}: {} samples, {} of {} answers right: accuracy {:.4f}; {:.1f} s\n",
             loaded.checkpoint().path,
             options.task,
             eval.samples(),
             scores.all.right,
             scores.all.answers,
             scores.all.Accuracy(),
             seconds);
  PrintScores(scores);
  fmt::print("\n{}\n", RenderKvCache(loaded.config().model, eval.longest()));
  if (json) {
    // As decoding holds it; counted where the model has no caches for decoding.
    const int64_t kv_bytes = MeasureKvCache(loaded.runtime().Context(), loaded.model(), eval.longest())
                                 .value_or(CountKvCache(loaded.config().model, eval.longest()).bytes);
    WriteJson(*json, options, scores, eval.samples(), kv_bytes, seconds);
  }
}

}  // namespace ksa
