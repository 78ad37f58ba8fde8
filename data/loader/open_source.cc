#include "data/loader/open_source.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "data/files/paths.h"
#include "data/tasks/task_stream.h"
#include "data/tokenizers/tokenizer.h"

namespace ksa {
namespace {

// Throws when the model cannot take the folder's tokens.
void CheckVocabulary(const ShardFolder& folder, int64_t vocab_size) {
  for (const TokenShard& shard : folder.shards()) {
    const int64_t largest = std::max(shard.info().max_token, shard.info().eos_id);
    if (largest >= vocab_size) {
      Fail(ExitCode::kBadData,
           "{}: holds token {}, but model.vocab_size is {}; it must be at least {}",
           shard.path(),
           largest,
           vocab_size,
           folder.index().vocab_size);
    }
  }
}

void CheckSameTokenizer(const ShardFolder& first, const ShardFolder& other) {
  if (first.index().tokenizer_xxh3 != other.index().tokenizer_xxh3) {
    Fail(ExitCode::kBadData,
         "{} was made with the tokenizer '{}' ({}), {} with '{}' ({}); all sources of a run must share one",
         first.path(),
         first.index().tokenizer,
         Hex(first.index().tokenizer_xxh3),
         other.path(),
         other.index().tokenizer,
         Hex(other.index().tokenizer_xxh3));
  }
}

SourceShape ShapeOf(const ShardFolder& folder, const std::string& name, double weight, int64_t sequence_length) {
  SourceShape shape{name, weight, {}};
  int64_t longest = 0;
  int64_t samples = 0;
  for (const ShardEntry& entry : folder.index().shards) {
    shape.shard_samples.push_back(SamplesOfShard(entry.tokens, sequence_length));
    samples += shape.shard_samples.back();
    longest = std::max(longest, entry.tokens);
  }
  if (samples == 0) {
    Fail(ExitCode::kBadData,
         "{}: its longest shard has {} tokens, but a sample of sequence length {} takes {}",
         folder.path(),
         longest,
         sequence_length,
         sequence_length + 1);
  }
  return shape;
}

OpenedSource Open(const std::string& path,
                  const std::string& name,
                  double weight,
                  const DatasetConfig& config,
                  const ShardFolder* first) {
  ShardFolder folder(path);
  CheckVocabulary(folder, config.vocab_size);
  if (first != nullptr) {
    CheckSameTokenizer(*first, folder);
  }
  SourceShape shape = ShapeOf(folder, SourceName(name, path), weight, config.sequence_length);
  return {std::move(folder), std::move(shape)};
}

}  // namespace

std::string SourceName(const std::string& name, const std::string& path) {
  if (!name.empty()) {
    return name;
  }
  std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
  if (!folder.has_filename()) {
    folder = folder.parent_path();
  }
  return folder.filename().empty() ? path : folder.filename().string();
}

SourceShape TaskShape(const TrainSource& source) {
  return {source.name.empty() ? source.task.kind : source.name, source.weight, {kEndless}};
}

SourceShape TaskShape(const ValidationSource& source) {
  return {source.name.empty() ? source.task.kind : source.name, 1, {kEndless}};
}

OpenedSource OpenSource(const TrainSource& source, const DatasetConfig& config, const ShardFolder* first) {
  return Open(source.path, source.name, source.weight, config, first);
}

OpenedSource OpenSource(const ValidationSource& source, const DatasetConfig& config, const ShardFolder* first) {
  return Open(source.path, source.name, 1, config, first);
}

namespace {

// What is wrong with the sources of both lists, one after the other.
class SourceExaminer {
 public:
  explicit SourceExaminer(const DatasetConfig& config) : config_(config) {}

  template <typename Source>
  void Shards(const std::vector<Source>& sources, const char* list) {
    for (size_t i = 0; i < sources.size(); ++i) {
      const std::string& path = sources[i].path;
      if (!sources[i].task.kind.empty()) {
        continue;
      }
      const bool absent = !Exists(path);
      absent_ = absent_ || absent;
      Try(fmt::format("{}[{}]", list, i), path, absent, [&] {
        if (absent) {
          Fail(ExitCode::kMissingInput, "{}: there is no such folder", path);
        }
        OpenedSource opened = OpenSource(sources[i], config_, first_ ? &*first_ : nullptr);
        if (!first_) {
          first_.emplace(std::move(opened.folder));
        }
      });
    }
  }

  // A task of text waits for the folder whose tokenizer it takes.
  template <typename Source>
  void Tasks(const std::vector<Source>& sources, const char* list, TaskUse use) {
    for (size_t i = 0; i < sources.size(); ++i) {
      const TaskSpec& task = sources[i].task;
      if (task.kind.empty() || (FindTaskKind(task.kind)->is_text && !first_ && absent_)) {
        continue;
      }
      Try(fmt::format("{}[{}]", list, i), "", false, [&] {
        const std::unique_ptr<Tokenizer> tokenizer =
            FindTaskKind(task.kind)->is_text && first_ ? OpenTokenizer(first_->TokenizerPath()) : nullptr;
        static_cast<void>(TaskStream(task, TaskShape(sources[i]).name, use, config_, tokenizer.get()));
      });
    }
  }

  std::vector<SourceProblem> Take() { return std::move(problems_); }

 private:
  template <typename Work>
  void Try(const std::string& source, const std::string& path, bool absent, const Work& work) {
    try {
      work();
    } catch (const Error& error) {
      problems_.push_back({source, path, error.code(), error.what(), absent});
    }
  }

  const DatasetConfig& config_;
  std::optional<ShardFolder> first_;  // that could be opened
  bool absent_ = false;               // a folder that is not there
  std::vector<SourceProblem> problems_;
};

}  // namespace

std::vector<SourceProblem> FindSourceProblems(const DatasetConfig& config) {
  SourceExaminer examiner(config);
  examiner.Shards(config.train, "data.train");
  examiner.Shards(config.validation, "data.validation");
  examiner.Tasks(config.train, "data.train", TaskUse::kTraining);
  examiner.Tasks(config.validation, "data.validation", TaskUse::kValidation);
  return examiner.Take();
}

}  // namespace ksa
