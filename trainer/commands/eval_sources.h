// What a checkpoint is evaluated on: the run's own validation data, a shard folder, or a text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/batch.h"
#include "data/sampling/even_samples.h"
#include "data/tokenizers/tokenizer.h"
#include "trainer/commands/session.h"

namespace ksa {

struct EvalInput {
  std::optional<std::string> data;         // a shard folder
  std::optional<std::string> text;         // a file; neither: the validation data of the checkpoint's configuration
  std::optional<int32_t> sequence_length;  // none: the run's
};

struct EvalSource {
  std::string name;
  std::string path;
  int64_t samples = 0;  // kEndless of a task
  std::function<void(const EvenSamples& samples, int64_t first, int64_t count, Batch& batch)> make_batch;
};

struct EvalSources {
  std::vector<EvalSource> sources;
  int32_t sequence_length = 0;
  // That made the tokens. Null where it is not there, or does not spell text.
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<std::string> warnings;
};

// `wanted` samples of a source, spread evenly; 0: all, and of a task the first 256.
[[nodiscard]] EvenSamples SamplesOf(const EvalSource& source, int64_t wanted);

// Error kUsage: neither data nor text is given, and the run has no validation data; a sequence length beyond the
// model's positions. kMissingInput: what is to be read is not there. kBadData: data of another tokenizer, a text that
// is not UTF-8 or empty. Errors as Dataset.
[[nodiscard]] EvalSources OpenEvalSources(const LoadedModel& loaded, const EvalInput& input);

}  // namespace ksa
