#include "model/ksa/layer_cost.h"

#include <algorithm>

#include "model/ksa/cost.h"
#include "model/mixers/mixer.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa {
namespace {

// Backward of attention does five products for two, of the pairs that forward sees.
constexpr double kAttentionBackward = 2.5;

double Rate(double limit, double half, double keys) {
  return limit * keys / (keys + half);
}

void AddAttention(const ModelConfig& share,
                  const SummaryLayout& layout,
                  int32_t layer,
                  const DeviceFigures& figures,
                  LayerCost& cost) {
  const PairCount pairs = CountLayerPairs(share, layout, layer);
  const double keys = static_cast<double>(pairs.OfTextQueries()) / static_cast<double>(layout.text_rows());
  const int64_t pair_flops = share.layers[static_cast<size_t>(layer)]->CostOfRow(share).pair_flops;
  const double flops = static_cast<double>(pair_flops) * static_cast<double>(pairs.Total());
  cost.attention_forward = flops / Rate(figures.attention_forward_flops, figures.attention_forward_half, keys);
  cost.attention_backward =
      kAttentionBackward * flops / Rate(figures.attention_backward_flops, figures.attention_backward_half, keys);
}

}  // namespace

ModelConfig TensorShare(const ModelConfig& model, int tensor_ranks, int tensor_rank) {
  if (tensor_ranks == 1) {
    return model;
  }
  ModelConfig share = model;
  share.num_attention_heads = model.num_attention_heads / tensor_ranks;
  share.num_key_value_heads = std::max(1, model.num_key_value_heads / tensor_ranks);
  const auto part = [&](int32_t total) {
    return static_cast<int32_t>(EvenPart(total, tensor_ranks, tensor_rank).size());
  };
  share.intermediate_size = part(model.intermediate_size);
  share.vocab_size = part(model.EmbeddingRows());
  share.ksa.independent.embedding = true;  // ids of summaries are among the rows already
  return share;
}

LayerRows RowsOfLayer(const ModelConfig& model, const SummaryLayout& layout, int32_t layer) {
  LayerRows rows = {.text = layout.text_rows()};
  const bool attend = model.SummariesAttend(layer);
  if (layer == model.LastKsaLayer() || (attend && layer < model.LastKsaLayer())) {
    rows.key_summaries = layout.summary_rows();
  }
  if (attend && layer < model.LastKsaLayer()) {
    rows.query_summaries = layout.summary_rows();
  }
  return rows;
}

LayerCost CostOfLayer(const ModelConfig& share,
                      const SummaryLayout& layout,
                      int32_t layer,
                      const DeviceFigures& figures,
                      int64_t element_bytes,
                      int norm_parts) {
  const LayerRows rows = RowsOfLayer(share, layout, layer);
  const double d = share.hidden_size;
  const RowCost row = share.layers[static_cast<size_t>(layer)]->CostOfRow(share);
  const auto q = static_cast<double>(row.query_columns);
  const auto kv = static_cast<double>(row.key_columns);
  const double i = share.intermediate_size;
  const auto keys = static_cast<double>(rows.keys());
  const auto queries = static_cast<double>(rows.queries());
  const auto product = [&](double n, double columns) { return 2.0 * n * d * columns / figures.product_flops; };
  const auto moved = [&](double elements) { return elements * static_cast<double>(element_bytes) / figures.row_bytes; };
  LayerCost cost;
  const auto products = [&](double n, int64_t flops) { return n * static_cast<double>(flops) / figures.product_flops; };
  const auto pooled = static_cast<double>(share.layers[static_cast<size_t>(layer)]->CountPooledRows(layout));
  cost.key_products = products(keys, row.key_flops) + products(static_cast<double>(rows.text), row.text_flops) +
                      products(pooled, row.pooled_flops);
  cost.query_product = products(queries, row.query_flops);
  cost.out_product = products(queries, row.out_flops);
  cost.gate_up_products = product(queries, 2.0 * i);
  cost.down_product = product(queries, i);
  // Norms of sums, of which a block without MLP has one: each reads two matrices and writes two, forward and backward.
  cost.norms_forward = moved((keys + (i > 0.0 ? queries : 0.0)) * 4.0 * d / norm_parts);
  cost.norms_backward = cost.norms_forward;
  cost.rope_forward = moved(2.0 * (queries * q + keys * kv));
  cost.rope_backward = moved(3.0 * (queries * q + keys * kv));
  cost.swiglu_forward = moved(3.0 * queries * i);
  cost.swiglu_backward = moved(5.0 * queries * i);
  AddAttention(share, layout, layer, figures, cost);
  return cost;
}

}  // namespace ksa
