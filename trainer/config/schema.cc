#include "trainer/config/schema.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>

namespace ksa {
namespace {

std::vector<Key> AllKeys() {
  std::vector<Key> all;
  for (std::vector<Key>& keys : std::vector<std::vector<Key>>{RunKeys(),
                                                              ModelKeys(),
                                                              AttentionKeys(),
                                                              DataKeys(),
                                                              TrainingKeys(),
                                                              OptimizerKeys(),
                                                              ScheduleKeys(),
                                                              ParallelKeys(),
                                                              CheckpointKeys(),
                                                              EvaluationKeys(),
                                                              LoggingKeys()}) {
    all.insert(all.end(), std::make_move_iterator(keys.begin()), std::make_move_iterator(keys.end()));
  }
  return all;
}

// Names that other trainers use.
std::string Synonym(const std::string& name) {
  static constexpr std::array<std::pair<const char*, const char*>, 14> kSynonyms = {{
      {"learning_rate", "optimizer.lr"},
      {"min_learning_rate", "optimizer.min_lr"},
      {"batch_size", "training.global_batch_size"},
      {"seq_len", "training.sequence_length"},
      {"seq_length", "training.sequence_length"},
      {"train_iters", "training.max_steps"},
      {"steps", "training.max_steps"},
      {"dtype", "training.precision"},
      {"gradient_clipping", "optimizer.clip_grad_norm"},
      {"n_heads", "model.num_attention_heads"},
      {"num_heads", "model.num_attention_heads"},
      {"n_layers", "model.num_hidden_layers"},
      {"num_layers", "model.num_hidden_layers"},
      {"ffn_hidden_size", "model.intermediate_size"},
  }};
  const auto* const found =
      std::find_if(kSynonyms.begin(), kSynonyms.end(), [&](const auto& pair) { return name == pair.first; });
  return found == kSynonyms.end() ? "" : found->second;
}

std::string LastPart(const std::string& path) {
  return path.substr(path.rfind('.') + 1);
}

}  // namespace

const std::vector<Key>& Schema() {
  static const std::vector<Key> kKeys = AllKeys();
  return kKeys;
}

const Key* FindKey(const std::string& path) {
  const std::vector<Key>& keys = Schema();
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const Key& key) { return key.path == path; });
  return found == keys.end() ? nullptr : &*found;
}

std::vector<std::string> NamesUnder(const std::string& section) {
  const std::string prefix = section.empty() ? "" : section + ".";
  std::vector<std::string> names;
  for (const Key& key : Schema()) {
    if (key.path.starts_with(prefix)) {
      const std::string name = key.path.substr(prefix.size(), key.path.find('.', prefix.size()) - prefix.size());
      if (names.empty() || names.back() != name) {
        names.push_back(name);
      }
    }
  }
  return names;
}

std::string AdviseUnknown(const std::string& section, const std::string& name) {
  if (name.find('.') != std::string::npos && (IsKnownPath(name) || IsKnownPath(Under(section, name)))) {
    return fmt::format("unknown key; '{}' is written as nested mappings, not with dots", name);
  }
  const std::vector<std::string> here = NamesUnder(section);
  std::vector<std::string> all = NamesUnder("");
  for (const Key& key : Schema()) {
    if (LastPart(key.path) == name) {
      return fmt::format("unknown key here; '{}' belongs in section '{}'",
                         name,
                         key.path.substr(0, key.path.size() - name.size() - 1));
    }
    all.push_back(LastPart(key.path));
  }
  if (const std::string synonym = Synonym(name); !synonym.empty()) {
    return fmt::format("unknown key; did you mean '{}'?", synonym);
  }
  if (const std::string nearest = NearestName(name, here); !nearest.empty()) {
    return fmt::format("unknown key; did you mean '{}'?", Under(section, nearest));
  }
  const std::string anywhere = NearestName(name, all);
  for (const Key& key : Schema()) {
    if (!anywhere.empty() && LastPart(key.path) == anywhere) {
      return fmt::format("unknown key; did you mean '{}'?", key.path);
    }
  }
  return section.empty() ? fmt::format("unknown section; the sections are {}", Joined(here))
                         : fmt::format("unknown key; '{}' has {}", section, Joined(here));
}

bool IsKnownPath(const std::string& path) {
  return FindKey(path) != nullptr || (!path.empty() && !NamesUnder(path).empty());
}

std::string AdviseUnknownPath(const std::string& path) {
  // The name behind the last section that exists.
  std::string section = path;
  do {
    const size_t dot = section.rfind('.');
    section.resize(dot == std::string::npos ? 0 : dot);
  } while (!section.empty() && NamesUnder(section).empty());
  return AdviseUnknown(section, path.substr(section.empty() ? 0 : section.size() + 1));
}

std::vector<PatternEntry> DefaultPattern() {
  const PatternEntry ksa = {FindMixerKind("ksa"), {}};
  return {ksa, ksa, ksa, {FindMixerKind("full"), {}}};
}

std::vector<LayerSpec> ResolveLayers(const Draft& draft) {
  std::vector<LayerSpec> layers;
  for (int32_t i = 0; i < draft.config.model.num_hidden_layers; ++i) {
    const PatternEntry& entry = draft.pattern[static_cast<size_t>(i) % draft.pattern.size()];
    layers.push_back(entry.kind->MakeLayer(draft.config.model, entry.values));
  }
  return layers;
}

Config ResolveDefaults(const Draft& draft) {
  Config config = draft.config;
  config.run.dir = draft.run_dir.value_or("runs/" + config.run.name);

  ModelConfig& model = config.model;
  model.num_key_value_heads = draft.num_key_value_heads.value_or(model.num_attention_heads);
  model.head_dim = draft.head_dim.value_or(model.hidden_size / std::max(1, model.num_attention_heads));
  model.max_position_embeddings = draft.max_position_embeddings.value_or(config.training.sequence_length);
  model.layers = ResolveLayers(draft);

  TrainingConfig& training = config.training;
  const int64_t update_tokens = std::max<int64_t>(1, int64_t{training.global_batch_size} * training.sequence_length);
  const int64_t tokens = draft.max_tokens.value_or(0);
  training.max_steps = draft.max_steps.value_or(tokens / update_tokens + (tokens % update_tokens > 0 ? 1 : 0));

  config.optimizer.min_lr = draft.min_lr.value_or(config.optimizer.lr / 10);
  config.optimizer.beta1 = draft.betas[0];
  config.optimizer.beta2 = draft.betas[1];
  config.schedule.warmup_steps = draft.warmup_steps.Of(training.max_steps);
  config.schedule.decay_steps =
      draft.decay_steps.has_value() ? draft.decay_steps->Of(training.max_steps) : training.max_steps / 10;
  config.parallel.sequence_parallel = draft.sequence_parallel.value_or(config.parallel.tensor > 1);
  return config;
}

Draft ToDraft(const Config& config) {
  Draft draft;
  draft.config = config;
  draft.run_dir = config.run.dir;
  draft.num_key_value_heads = config.model.num_key_value_heads;
  draft.head_dim = config.model.head_dim;
  draft.max_position_embeddings = config.model.max_position_embeddings;
  draft.max_steps = config.training.max_steps;
  draft.min_lr = config.optimizer.min_lr;
  draft.betas = {config.optimizer.beta1, config.optimizer.beta2};
  draft.warmup_steps.steps = config.schedule.warmup_steps;
  draft.decay_steps = StepCount{config.schedule.decay_steps, {}};
  draft.sequence_parallel = config.parallel.sequence_parallel;

  // The shortest pattern that gives these layers.
  const std::vector<LayerSpec>& layers = config.model.layers;
  size_t period = 1;
  const auto repeats = [&](size_t p) {
    return std::equal(
        layers.begin() + static_cast<std::ptrdiff_t>(std::min(p, layers.size())), layers.end(), layers.begin());
  };
  while (period < layers.size() && !repeats(period)) {
    ++period;
  }
  draft.pattern.clear();
  for (size_t i = 0; i < std::min(period, layers.size()); ++i) {
    const MixerKind& kind = layers[i]->kind();
    draft.pattern.push_back({&kind, kind.EntryOf(config.model, *layers[i])});
  }
  return draft;
}

}  // namespace ksa
