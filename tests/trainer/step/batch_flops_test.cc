#include "trainer/step/batch_flops.h"

#include <vector>

#include <gtest/gtest.h>

#include "model/ksa/cost.h"
#include "model/ksa/model.h"
#include "model/mixers/full/full.h"
#include "model/mixers/ksa/ksa.h"

namespace ksa {
namespace {

ModelConfig Model() {
  return {.vocab_size = 100,
          .hidden_size = 32,
          .intermediate_size = 48,
          .num_hidden_layers = 2,
          .num_attention_heads = 2,
          .num_key_value_heads = 2,
          .head_dim = 16,
          .layers = {KsaLayer(2), FullLayer()},
          .ksa = {.chunk_size = 4}};
}

Batch Plain(int32_t samples, int32_t length) {
  Batch batch;
  batch.samples = samples;
  batch.sequence_length = length;
  batch.chunks = (length + 3) / 4;
  batch.target_count = int64_t{samples} * length;
  return batch;
}

TEST(BatchFlops, CountsBatchesOfAnySize) {
  const ModelConfig model = Model();
  BatchFlops flops(model);
  for (const int32_t samples : {1, 3, 3}) {
    for (const int32_t length : {16, 30, 30}) {
      const double expected = CountForwardFlops(model, MakeLayout(model, samples, length)).Total();
      EXPECT_GT(expected, 0.0);
      EXPECT_EQ(flops.Forward(Plain(samples, length)), expected) << samples << " of " << length;
    }
  }
}

TEST(BatchFlops, CountsTheDocumentsOfEveryBatch) {
  const ModelConfig model = Model();
  BatchFlops flops(model);
  const double whole = flops.Forward(Plain(1, 16));
  Batch batch = Plain(1, 16);
  batch.document_first_chunk = {0, 0, 0, 0};
  batch.chunk_tokens = {4, 4, 4, 4};
  EXPECT_EQ(flops.Forward(batch), whole) << "one document that fills the sample";
  batch.document_first_chunk = {0, 0, 2, 2};
  EXPECT_LT(flops.Forward(batch), whole) << "two documents do not see each other";
  EXPECT_EQ(flops.Forward(Plain(1, 16)), whole);
}

}  // namespace
}  // namespace ksa
