#include "trainer/evaluate/cache_line.h"

#include <fmt/core.h>

#include "model/ksa/cost.h"
#include "model/mixers/decode.h"
#include "model/mixers/full/full.h"
#include "trainer/observe/log_line.h"

namespace ksa {

std::string RenderKvCache(const ModelConfig& model, int64_t tokens) {
  const int64_t bytes = CountKvCache(model, tokens).bytes;
  std::string line = fmt::format("KV cache of {} tokens in bf16: {}", tokens, FormatBytes(bytes));
  ModelConfig full = model;
  full.layers.assign(model.layers.size(), FullLayer());
  if (full.layers != model.layers) {
    const int64_t most = CountKvCache(full, tokens).bytes;
    line += fmt::format("; full attention in every layer: {}, {:.1f} times as much",
                        FormatBytes(most),
                        static_cast<double>(most) / static_cast<double>(bytes));
  }
  return line;
}

std::optional<int64_t> MeasureKvCache(const ExecContext& cx, const KsaModel& model, int32_t tokens) {
  int64_t bytes = 0;
  for (const auto& cache : model.MakeCaches(cx, 1, tokens)) {
    if (cache == nullptr) {
      return std::nullopt;
    }
    bytes += cache->bytes();
  }
  return bytes;
}

}  // namespace ksa
