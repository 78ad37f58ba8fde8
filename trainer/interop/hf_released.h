// The fields of the released implementation's config.json, both ways.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "model/mixers/model_config.h"

namespace ksa {

// What of a model the released code cannot say, with the key's name.
[[nodiscard]] std::vector<std::string> ReleasedProblems(const ModelConfig& model);

[[nodiscard]] nlohmann::ordered_json ReleasedFields(const ModelConfig& model, double mix);

// The section `attention` of our schema from the released fields of `config`, for `layers` layers; kConfig for values
// that we cannot honour. `path` stands for the file in messages.
[[nodiscard]] nlohmann::json ReleasedAttention(const nlohmann::json& config, int64_t layers, const std::string& path);

// summary_sliding_chunk_num: one number, a list, or text as "([128]*3+[1024]*1)*6". One window a layer; kConfig for
// anything else.
[[nodiscard]] std::vector<int64_t> ParseWindows(const nlohmann::json& value, int64_t layers, const std::string& path);

// The same model with full layers: what Qwen3's own fields say of it.
[[nodiscard]] ModelConfig AsFullLayers(const ModelConfig& model);

}  // namespace ksa
