// The size of a sequence's KV cache beside full attention's, in words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/ksa/model.h"

namespace ksa {

// "KV cache of 1024 tokens in bf16: 400.0 KiB; full attention in every layer: 2.0 MiB, 5.1 times as much". Counted by
// CountKvCache, of one sequence. A model of full layers alone has nothing to be compared with, and gives the first
// half.
[[nodiscard]] std::string RenderKvCache(const ModelConfig& model, int64_t tokens);

// Bytes that decoding holds of one sequence of `tokens` in the model's compute type, counted from the buffers, which
// are made and given back; none where the model has no caches for decoding here.
[[nodiscard]] std::optional<int64_t> MeasureKvCache(const ExecContext& cx, const KsaModel& model, int32_t tokens);

}  // namespace ksa
