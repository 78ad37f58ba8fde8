// Model cases in shapes that tensor cores take.
#pragma once

#include <string>

#include <fmt/core.h>

#include "model/mixers/mla/mla.h"
#include "model/mixers/swa/swa.h"
#include "tests/model/ksa/model_cases.h"

namespace ksa::testing {

// The same kind of model with rows enough for several tiles, in the shape that tensor cores take.
[[nodiscard]] inline ModelCase Larger(ModelCase c, int32_t head_dim) {
  constexpr int32_t kTimes = 9;
  c.name += fmt::format(", larger, head dim {}", head_dim);
  c.config.vocab_size = 61;
  c.config.hidden_size = 64;
  c.config.intermediate_size = c.config.intermediate_size == 0 ? 0 : 96;
  c.config.head_dim = head_dim;
  c.config.ksa.chunk_size = 5;
  MlaConfig& mla = c.config.mixers.Of<MlaConfig>();
  mla.qk_nope_head_dim = mla.v_head_dim = 128;
  mla.qk_rope_head_dim = 64;
  c.tokens *= kTimes;
  for (LayerSpec& layer : c.config.layers) {
    if (&layer->kind() == &SwaKind()) {
      layer = SwaLayer(37);
    }
  }
  const int32_t k = c.config.ChunkSize();
  int32_t chunks = 1;
  for (int32_t& length : c.documents) {
    length *= kTimes;
    chunks += (length + k - 1) / k;
  }
  c.tokens = c.documents.empty() ? c.tokens : chunks * k;
  return c;
}

}  // namespace ksa::testing
