// The size of a sequence's KV cache beside full attention's, in words.
#pragma once

#include <cstdint>
#include <string>

#include "model/mixers/model_config.h"

namespace ksa {

// "KV cache of 1024 tokens in bf16: 400.0 KiB; full attention in every layer: 2.0 MiB, 5.1 times as much". Counted by
// CountKvCache, of one sequence. A model of full layers alone has nothing to be compared with, and gives the first
// half.
[[nodiscard]] std::string RenderKvCache(const ModelConfig& model, int64_t tokens);

}  // namespace ksa
