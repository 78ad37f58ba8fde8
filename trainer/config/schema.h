// The one table of all keys. It drives reading, --set, unknown keys, printing, the resolved file, the comparison on a
// resume and the test of docs/configuration.md.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/mixers/registry.h"
#include "trainer/config/codec.h"
#include "trainer/config/config.h"
#include "trainer/config/counts.h"
#include "trainer/config/load.h"

namespace ksa {

// An entry of model.attention.pattern as written.
struct PatternEntry {
  const MixerKind* kind = MixerKinds().front();
  EntryValues values;
};

[[nodiscard]] std::vector<PatternEntry> DefaultPattern();

// A configuration as written: a Config, and beside it every value whose default depends on other keys.
struct Draft {
  Config config;
  std::optional<std::string> run_dir;
  std::optional<int32_t> num_key_value_heads;
  std::optional<int32_t> head_dim;
  std::optional<int32_t> max_position_embeddings;
  std::vector<PatternEntry> pattern = DefaultPattern();
  std::optional<int64_t> max_steps;
  std::optional<int64_t> max_tokens;
  std::optional<double> min_lr;
  std::vector<double> betas = {0.9, 0.95};
  StepCount warmup_steps;
  std::optional<StepCount> decay_steps;
  std::optional<bool> sequence_parallel;
};

struct Key {
  std::string path;          // "training.max_steps"
  std::string type;          // for people
  std::string default_text;  // "required", the YAML of the default, or how it follows from other keys
  std::string doc;           // one line
  ChangeClass change = ChangeClass::kFree;
  std::function<bool(const YamlNode&, const Reporter&, Draft&)> read;
  std::function<std::string(Draft&)> write;

  [[nodiscard]] bool required() const { return default_text == "required"; }
};

// All keys, section by section.
[[nodiscard]] const std::vector<Key>& Schema();

// The key with this path; null if there is none.
[[nodiscard]] const Key* FindKey(const std::string& path);

// The names directly under a section ("" is the top); empty if it is no section.
[[nodiscard]] std::vector<std::string> NamesUnder(const std::string& section);

// What to say about a key that nobody knows: the nearest one, wherever it is, or what the section has.
[[nodiscard]] std::string AdviseUnknown(const std::string& section, const std::string& name);

// A key or a section.
[[nodiscard]] bool IsKnownPath(const std::string& path);

// The same as AdviseUnknown for a whole path, as in --set.
[[nodiscard]] std::string AdviseUnknownPath(const std::string& path);

// Fills in every default. The draft must have passed CheckRules.
[[nodiscard]] Config ResolveDefaults(const Draft& draft);

// One LayerSpec a layer: the pattern repeated over the depth.
[[nodiscard]] std::vector<LayerSpec> ResolveLayers(const Draft& draft);

// A draft that says everything, max_steps instead of max_tokens.
[[nodiscard]] Draft ToDraft(const Config& config);

// The sections of the schema, each a part of Schema().
[[nodiscard]] std::vector<Key> RunKeys();
[[nodiscard]] std::vector<Key> ModelKeys();
[[nodiscard]] std::vector<Key> AttentionKeys();
[[nodiscard]] std::vector<Key> DataKeys();
[[nodiscard]] std::vector<Key> TrainingKeys();
[[nodiscard]] std::vector<Key> OptimizerKeys();
[[nodiscard]] std::vector<Key> ScheduleKeys();
[[nodiscard]] std::vector<Key> ParallelKeys();
[[nodiscard]] std::vector<Key> CheckpointKeys();
[[nodiscard]] std::vector<Key> EvaluationKeys();
[[nodiscard]] std::vector<Key> LoggingKeys();

// A row of the table. `at` gives the place of the value in a draft.
template <typename T>
[[nodiscard]] Key MakeKey(const std::string& path,
                          const Codec<T>& codec,
                          const std::string& default_text,
                          const std::string& doc,
                          ChangeClass change,
                          T& (*at)(Draft&)) {
  return {path,
          codec.type,
          default_text,
          doc,
          change,
          [codec, at](const YamlNode& node, const Reporter& reporter, Draft& draft) {
            return codec.read(node, reporter, at(draft));
          },
          [codec, at](Draft& draft) { return codec.write(at(draft)); }};
}

}  // namespace ksa
