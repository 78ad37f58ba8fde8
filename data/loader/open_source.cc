#include "data/loader/open_source.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "data/files/paths.h"

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

OpenedSource OpenSource(const TrainSource& source, const DatasetConfig& config, const ShardFolder* first) {
  return Open(source.path, source.name, source.weight, config, first);
}

OpenedSource OpenSource(const ValidationSource& source, const DatasetConfig& config, const ShardFolder* first) {
  return Open(source.path, source.name, 1, config, first);
}

std::vector<SourceProblem> FindSourceProblems(const DatasetConfig& config) {
  std::vector<SourceProblem> problems;
  std::optional<ShardFolder> first;  // that could be opened
  const auto examine = [&](const auto& sources, const char* list) {
    for (size_t i = 0; i < sources.size(); ++i) {
      const std::string& path = sources[i].path;
      SourceProblem problem{fmt::format("{}[{}]", list, i), path, ExitCode::kBadData, "", false};
      try {
        if (!Exists(path)) {
          problem.absent = true;
          Fail(ExitCode::kMissingInput, "{}: there is no such folder", path);
        }
        OpenedSource opened = OpenSource(sources[i], config, first ? &*first : nullptr);
        if (!first) {
          first.emplace(std::move(opened.folder));
        }
      } catch (const Error& error) {
        problem.code = error.code();
        problem.message = error.what();
        problems.push_back(std::move(problem));
      }
    }
  };
  examine(config.train, "data.train");
  examine(config.validation, "data.validation");
  return problems;
}

}  // namespace ksa
