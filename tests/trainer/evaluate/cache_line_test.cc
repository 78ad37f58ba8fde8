#include "trainer/evaluate/cache_line.h"

#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"
#include "trainer/config/load.h"

namespace ksa {
namespace {

// 4 layers, keys and values of 128 columns in 2 bytes: 512 bytes an entry and layer. After 1024 tokens a KSA layer with
// k = 8, w = 8 keeps (8 + 1)·8 text entries and 128 summaries, a full one 1024.
TEST(CacheLine, IsTheComputationByHand) {
  const std::string model = "configs/model/ksa_1m5.yaml";
  EXPECT_EQ(RenderKvCache(LoadModelConfig(model, 1024), 1024),
            "KV cache of 1024 tokens in bf16: 400.0 KiB; full attention in every layer: 2.0 MiB, 5.1 times as much");
  EXPECT_EQ(RenderKvCache(LoadModelConfig(model, 1024, {"model.attention.pattern=[ksa, full]"}), 1024),
            "KV cache of 1024 tokens in bf16: 1.2 MiB; full attention in every layer: 2.0 MiB, 1.7 times as much");
  EXPECT_EQ(RenderKvCache(LoadModelConfig(model, 1024, {"model.attention.pattern=[full]"}), 1024),
            "KV cache of 1024 tokens in bf16: 2.0 MiB");
}

// A sequence within the window keeps all of its text, and its summaries besides.
TEST(CacheLine, ShortSequences) {
  EXPECT_EQ(RenderKvCache(LoadModelConfig("configs/model/ksa_1m5.yaml", 1024), 64),
            "KV cache of 64 tokens in bf16: 144.0 KiB; full attention in every layer: 128.0 KiB, 0.9 times as much");
}

}  // namespace
}  // namespace ksa
