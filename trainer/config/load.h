// From YAML to Config and back. Every mistake of a file is found in one pass and reported one a line as
// `file:line:col: key: what, and what to do`, in one Error(kConfig); a file that cannot be read is
// Error(kMissingInput).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/config/config.h"

namespace ksa {

struct LoadedConfig {
  Config config;
  std::map<std::string, std::string> origins;  // of the keys that were given: "file:line" or "--set"
  std::vector<std::string> warnings;
};

// Reads a run file and what it includes, then applies `sets` ("key=value", the last one wins).
[[nodiscard]] LoadedConfig LoadConfig(const std::string& path, const std::vector<std::string>& sets = {});

// The same from text; `name` stands for the file in messages. Includes are relative to the folder of `name`.
[[nodiscard]] LoadedConfig ParseConfig(std::string_view text,
                                       const std::string& name,
                                       const std::vector<std::string>& sets = {});

// A file or text that holds a `model:` mapping only, as under configs/model and in the golden files (JSON is YAML).
// Checked as in a run with this sequence length.
[[nodiscard]] ModelConfig LoadModelConfig(const std::string& path,
                                          int32_t sequence_length,
                                          const std::vector<std::string>& sets = {});
[[nodiscard]] ModelConfig ParseModelConfig(std::string_view text, const std::string& name, int32_t sequence_length);

// Whether this program was built with CUDA.
[[nodiscard]] bool BuildHasCuda();

// Fills in run.device and training.precision where they are open. fp64 stays on the CPU. Error(kConfig) when cuda is
// asked for and not available, or taken for a model that has layers without kernels for GPUs.
void ResolveDevice(Config& config, bool cuda_available);

// Fills in pool_samples of the tasks that have it, where it is open: 60 % of the source's share of the run's samples.
void ResolvePools(Config& config);

// The rules that need the number of ranks; fills in parallel.data. Error(kConfig) with every broken rule.
void CheckAgainstRanks(Config& config, int world_size);

// Every key of the configuration with its value as YAML text, in the order of docs/configuration.md.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> FlattenConfig(const Config& config);

// config.resolved.yaml: complete, and loads back to an equal Config.
[[nodiscard]] std::string RenderConfig(const Config& config);

// The same with the origin of every value as a comment: `ksa check --print`.
[[nodiscard]] std::string RenderConfigWithOrigins(const LoadedConfig& loaded);

// What a resume may change: nothing of kRefused, all of kFree, of kNeedsAllowChange what checkpoint.allow_change lists,
// of kContent where the data lies and how it is called (what it holds, the fingerprint says).
enum class ChangeClass : int { kRefused, kFree, kNeedsAllowChange, kContent };

struct ConfigDifference {
  std::string key;
  std::string old_value;
  std::string new_value;
  ChangeClass change = ChangeClass::kFree;
  bool allowed = false;  // kFree, or listed in the new checkpoint.allow_change, or following from a listed key
};

// Every key whose value differs, in the order of docs/configuration.md. Resolve both first.
[[nodiscard]] std::vector<ConfigDifference> DiffConfigs(const Config& old_config, const Config& new_config);

// Error(kConfig) that lists every difference that is not allowed and says what to do; nothing if there is none.
void CheckResume(const std::vector<ConfigDifference>& differences);

}  // namespace ksa
