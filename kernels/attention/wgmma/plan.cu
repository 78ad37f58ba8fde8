#include <algorithm>
#include <numbers>

#include "kernels/attention/wgmma/plan.cuh"
#include "kernels/core/cuda.h"

namespace ksa::cuda_attention::wgmma {
namespace {

// Of the L2 cache (50 MB on an H100 and H200), for keys and values that a group of heads reads again and again.
constexpr int64_t kCachedBytes = int64_t{24} << 20;

// Keys and values that some query of the sequence passes over, of one key head, at any one time.
int64_t LiveKeys(const SummaryLayout& layout, const AttentionWindow& window) {
  const int64_t chunk_window = std::min<int64_t>(window.chunks, layout.chunks()) * layout.chunk_size;
  const int64_t text = std::min<int64_t>({chunk_window, window.tokens, layout.text_tokens});
  return text + (window.summaries ? layout.live_summaries() : 0);
}

}  // namespace

QueryProblem MakeQueryProblem(const SummaryLayout& layout,
                              const AttentionWindow& window,
                              const TensorView& tensor_q,
                              const TensorView& tensor_k,
                              float scale) {
  const int64_t heads = tensor_q.shape[1];
  const int64_t e = tensor_q.shape[2];
  QueryProblem problem{.layout = layout, .window = window};
  problem.heads = static_cast<int32_t>(heads);
  problem.heads_per_key_head = static_cast<int32_t>(heads / tensor_k.shape[1]);
  problem.queries = layout.Queries();
  problem.tiles = (problem.queries.size() + kTileRows - 1) / kTileRows;
  problem.units = static_cast<int32_t>(heads * layout.sequences);
  const int64_t bytes = std::max<int64_t>(LiveKeys(layout, window) * e * 4, 1);  // of keys and values in bf16
  const int64_t key_heads = std::max<int64_t>(kCachedBytes / bytes, 1);
  problem.units_per_group =
      static_cast<int32_t>(std::min<int64_t>(key_heads * problem.heads_per_key_head, std::max(problem.units, 1)));
  problem.items = problem.tiles * problem.units;
  problem.scale = scale;
  problem.scale_log2 = problem.scale * std::numbers::log2e_v<float>;
  return problem;
}

int PersistentBlocks(const QueryProblem& problem, const Device& device) {
  int multiprocessors = 0;
  KSA_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device.ordinal));
  return std::min(problem.items, multiprocessors);
}

}  // namespace ksa::cuda_attention::wgmma
