#include "trainer/commands/eval_sources.h"

#include <utility>

#include <fmt/core.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/loader/dataset.h"
#include "data/loader/text_samples.h"
#include "data/tools/utf8.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/run_tokenizer.h"
#include "trainer/loop/trainer.h"

namespace ksa {
namespace {

constexpr int64_t kMostTextBytes = int64_t{1} << 30;

// What the run validated on, if it is still there.
std::vector<ValidationSource> OwnValidation(const LoadedModel& loaded) {
  const std::vector<ValidationSource>& sources = loaded.config().data.validation;
  const std::string& checkpoint = loaded.checkpoint().path;
  if (sources.empty()) {
    Fail(ExitCode::kUsage,
         "{}: its run has no validation data; say what to read: --data DIR (a shard folder) or --text FILE",
         checkpoint);
  }
  for (const ValidationSource& source : sources) {
    if (const PathKind kind = KindOf(source.path); source.task.kind.empty() && kind != PathKind::kFolder) {
      Fail(ExitCode::kMissingInput,
           "{}: the run's validation data '{}' was expected here, as its configuration in {} says; found {}. Say where "
           "it "
           "is now: --data DIR",
           source.path,
           source.name,
           checkpoint,
           NameOf(kind));
    }
  }
  return sources;
}

std::unique_ptr<Tokenizer> OpenIfItSpells(const std::string& path) {
  std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(path);
  return tokenizer->SpellsText() ? std::move(tokenizer) : nullptr;
}

void OpenShards(const LoadedModel& loaded, DatasetConfig config, EvalSources& opened) {
  config.train.clear();
  const auto dataset = std::make_shared<const Dataset>(config);
  if (!CheckTokenizer(loaded.checkpoint(), *dataset)) {
    opened.warnings.push_back(
        fmt::format("{}: its tokenizer is not kept beside it; whether it is that of {} is not checked",
                    loaded.checkpoint().path,
                    config.validation.front().path));
  }
  opened.tokenizer = dataset->HasTokenizer() ? OpenIfItSpells(dataset->TokenizerPath()) : nullptr;
  for (size_t i = 0; i < dataset->validation_sources().size(); ++i) {
    const SourceInfo& info = dataset->validation_sources()[i];
    opened.sources.push_back({info.name,
                              info.path,
                              info.samples,
                              [dataset, i](const EvenSamples& samples, int64_t first, int64_t count, Batch& batch) {
                                dataset->MakeValidationBatch(i, samples, first, count, batch);
                              }});
  }
}

// The tokens of a file as `ksa data tokenize --documents file` makes them.
std::vector<int32_t> TokensOfFile(const std::string& path, const Tokenizer& tokenizer) {
  if (const PathKind kind = KindOf(path); kind != PathKind::kFile) {
    Fail(ExitCode::kMissingInput, "--text {}: a file was expected, found {}", path, NameOf(kind));
  }
  std::string text = ReadSmallFile(path, kMostTextBytes);
  if (text.starts_with(kByteOrderMark)) {
    text.erase(0, kByteOrderMark.size());
  }
  if (const size_t valid = ValidUtf8Prefix(text); valid != text.size()) {
    Fail(ExitCode::kBadData, "--text {}: not UTF-8 (byte {}); convert it with iconv", path, valid);
  }
  std::vector<int32_t> tokens;
  tokenizer.Encode(text, tokens);
  if (tokens.empty()) {
    Fail(ExitCode::kBadData, "--text {}: there is no text in it", path);
  }
  tokens.push_back(static_cast<int32_t>(tokenizer.eos_id()));
  return tokens;
}

void OpenText(const LoadedModel& loaded, const std::string& path, const DatasetConfig& config, EvalSources& opened) {
  opened.tokenizer = loaded.OpenRunTokenizer();
  const auto text = std::make_shared<const TextSamples>(TokensOfFile(path, *opened.tokenizer), config);
  opened.sources.push_back({path.substr(path.rfind('/') + 1),
                            path,
                            text->samples(),
                            [text](const EvenSamples& samples, int64_t first, int64_t count, Batch& batch) {
                              text->MakeBatch(samples, first, count, batch);
                            }});
}

}  // namespace

EvenSamples SamplesOf(const EvalSource& source, int64_t wanted) {
  constexpr int64_t kOfTask = 256;
  if (source.samples == kEndless) {
    const int64_t taken = wanted > 0 ? wanted : kOfTask;
    return {taken, taken};
  }
  return TakeEvenly(wanted > 0 ? wanted : source.samples, source.samples);
}

EvalSources OpenEvalSources(const LoadedModel& loaded, const EvalInput& input) {
  DatasetConfig config = DatasetConfigOf(loaded.config());
  const int64_t longest = loaded.config().model.max_position_embeddings;
  if (input.sequence_length.value_or(0) > longest) {
    Fail(ExitCode::kUsage, "--sequence-length {} is beyond the model's {} positions", *input.sequence_length, longest);
  }
  config.sequence_length = input.sequence_length.value_or(config.sequence_length);
  EvalSources opened;
  opened.sequence_length = config.sequence_length;
  if (input.text) {
    OpenText(loaded, *input.text, config, opened);
    return opened;
  }
  if (input.data) {
    config.validation = {{*input.data, ""}};
  } else {
    config.validation = OwnValidation(loaded);
  }
  OpenShards(loaded, std::move(config), opened);
  return opened;
}

}  // namespace ksa
