// What a layer costs one rank in computation, part by part, so that an estimate can say what runs while rows travel.
#pragma once

#include <cstdint>

#include "kernels/core/summary_layout.h"
#include "model/ksa/device_figures.h"
#include "model/mixers/model_config.h"

namespace ksa {

// A model as one of `tensor_ranks` ranks sees it: its own heads, its columns of the MLP, its part of the vocabulary.
[[nodiscard]] ModelConfig TensorShare(const ModelConfig& model, int tensor_ranks, int tensor_rank);

// Seconds of one micro-batch. A product is one pass over its rows: forward, and again for the gradient of its input and
// for that of its weight.
struct LayerCost {
  double key_products = 0.0;   // k, v
  double query_product = 0.0;  // q
  double out_product = 0.0;    // behind attention
  double gate_up_products = 0.0;
  double down_product = 0.0;
  double attention_forward = 0.0;
  double attention_backward = 0.0;
  // Row-wise kernels: norms with the residual sum, q/k norm with RoPE, SwiGLU.
  double norms_forward = 0.0;
  double norms_backward = 0.0;
  double rope_forward = 0.0;
  double rope_backward = 0.0;
  double swiglu_forward = 0.0;
  double swiglu_backward = 0.0;

  [[nodiscard]] double Products() const {
    return key_products + query_product + out_product + gate_up_products + down_product;
  }

  [[nodiscard]] double RowsForward() const { return norms_forward + rope_forward + swiglu_forward; }

  [[nodiscard]] double RowsBackward() const { return norms_backward + rope_backward + swiglu_backward; }
};

// The rows that run through a layer: as keys and values, as queries, through the MLP.
struct LayerRows {
  int64_t text = 0;
  int64_t key_summaries = 0;
  int64_t query_summaries = 0;

  [[nodiscard]] int64_t keys() const { return text + key_summaries; }

  [[nodiscard]] int64_t queries() const { return text + query_summaries; }
};

[[nodiscard]] LayerRows RowsOfLayer(const ModelConfig& model, const SummaryLayout& layout, int32_t layer);

// Of `share`, a rank's TensorShare, over the rows of `layout`. `element_bytes`: of the compute type;
// `norm_parts`: tensor ranks that divide the rows between products.
[[nodiscard]] LayerCost CostOfLayer(const ModelConfig& share,
                                    const SummaryLayout& layout,
                                    int32_t layer,
                                    const DeviceFigures& figures,
                                    int64_t element_bytes,
                                    int norm_parts);

}  // namespace ksa
