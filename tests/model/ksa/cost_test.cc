// The cost model against pairs counted one by one with Visible(), and against numbers worked out by hand.
#include "model/ksa/cost.h"

#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention/pairs.h"
#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/full/full.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"
#include "tests/support/context_layout.h"

namespace ksa {
namespace {

ModelConfig TinyModel(std::vector<LayerSpec> layers) {
  ModelConfig config;
  config.vocab_size = 37;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_hidden_layers = static_cast<int32_t>(layers.size());
  config.num_attention_heads = 6;
  config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.max_position_embeddings = 64;
  config.layers = std::move(layers);
  config.ksa.chunk_size = 4;
  config.ksa.summary_tokens = 3;
  config.ksa.window_chunks = 2;
  config.mixers.Of<ScaConfig>().chunk_size = 4;
  return config;
}

std::vector<LayerSpec> EveryKind() {
  return {KsaLayer(2), FullLayer(), SwaLayer(7), ScaLayer(1), KsaLayer(4), ScaLayer(0)};
}

// Pairs seen by one query of one sequence, key by key.
PairCount CountKeys(const SummaryLayout& layout, const AttentionWindow& window, int32_t sequence, RowId query) {
  PairCount pairs;
  for (int32_t j = 0; j < layout.text_tokens; ++j) {
    const bool visible = Visible(layout, window, sequence, query, {false, j});
    (query.is_summary ? pairs.summary_query : pairs.text) += visible ? 1 : 0;
  }
  for (int32_t s = 0; s < layout.chunks() * layout.summary_tokens; ++s) {
    const bool visible = Visible(layout, window, sequence, query, {true, s});
    (query.is_summary ? pairs.summary_query : pairs.summary) += visible ? 1 : 0;
  }
  return pairs;
}

// A summary is live when some text sees it in a layer with the model's smallest window.
bool SomeTextSees(const SummaryLayout& layout, int32_t window_chunks, int32_t sequence, int32_t summary) {
  for (int32_t i = 0; i < layout.text_tokens; ++i) {
    if (Visible(layout, AttentionWindow::Ksa(window_chunks), sequence, {false, i}, {true, summary})) {
      return true;
    }
  }
  return false;
}

PairCount BruteForce(const SummaryLayout& layout,
                     const AttentionWindow& window,
                     bool summary_queries,
                     int32_t min_window) {
  PairCount total;
  const auto add = [&total](const PairCount& pairs) {
    total.text += pairs.text;
    total.summary += pairs.summary;
    total.summary_query += pairs.summary_query;
  };
  for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
    for (int32_t i = 0; i < layout.text_tokens; ++i) {
      add(CountKeys(layout, window, sequence, {false, i}));
    }
    for (int32_t s = 0; summary_queries && s < layout.chunks() * layout.summary_tokens; ++s) {
      if (SomeTextSees(layout, min_window, sequence, s)) {
        add(CountKeys(layout, window, sequence, {true, s}));
      }
    }
  }
  return total;
}

// As the operations of layer `layer` count them, where all summaries with rows are live.
PairCount CountLayerPairs(const ModelConfig& config, const SummaryLayout& layout, int32_t layer, bool attends) {
  PairCount pairs = CountTextPairs(layout, WindowOf(*config.layers[static_cast<size_t>(layer)]));
  if (attends) {
    pairs.summary_query = CountLiveSummaries(layout, config.MinKsaWindow()).pairs;
  }
  return pairs;
}

void ExpectPairs(const PairCount& actual, const PairCount& expected, const std::string& what) {
  EXPECT_EQ(actual.text, expected.text) << what;
  EXPECT_EQ(actual.summary, expected.summary) << what;
  EXPECT_EQ(actual.summary_query, expected.summary_query) << what;
}

TEST(Cost, PairsEqualBruteForceForEveryKindRoleAndLength) {
  for (const FullLayers full_layers : {FullLayers::kAttend, FullLayers::kBypass}) {
    for (const int32_t m : {1, 3}) {
      ModelConfig config = TinyModel(EveryKind());
      config.ksa.full_layers = full_layers;
      config.ksa.summary_tokens = m;
      for (const int32_t tokens : {1, 3, 4, 12, 13, 31, 42}) {
        const SummaryLayout layout = MakeLayout(config, 2, tokens);
        for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
          // Layer 4 is the last KSA layer: its summaries are keys only, and after it there are none.
          const bool ksa_before_last = layer == 0;
          const bool attends = layer < 4 && (ksa_before_last || full_layers == FullLayers::kAttend);
          ExpectPairs(CountLayerPairs(config, layout, layer, attends),
                      BruteForce(layout, WindowOf(*config.layers[static_cast<size_t>(layer)]), attends, 2),
                      fmt::format("T={} m={} layer {} full_layers {}",
                                  tokens,
                                  m,
                                  layer,
                                  full_layers == FullLayers::kAttend ? "attend" : "bypass"));
        }
      }
    }
  }
}

TEST(Cost, DocumentsAndPaddingAreRespected) {
  // Two sequences of 6 chunks of 4: documents of chunks {0..3}, {4, 5} with short chunks, and {0}, {1..5}.
  const std::vector<int32_t> first_chunk = {0, 0, 0, 0, 4, 4, 0, 1, 1, 1, 1, 1};
  const std::vector<int32_t> chunk_tokens = {4, 4, 4, 2, 4, 3, 1, 4, 4, 4, 4, 4};
  ModelConfig config = TinyModel({KsaLayer(1), SwaLayer(5), FullLayer(), KsaLayer(2)});
  const SummaryLayout layout = MakeLayout(config, 2, 24, first_chunk.data(), chunk_tokens.data());
  for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    ExpectPairs(CountLayerPairs(config, layout, layer, layer < 3),
                BruteForce(layout, WindowOf(*config.layers[static_cast<size_t>(layer)]), layer < 3, 1),
                fmt::format("layer {}", layer));
  }
  // Live: chunks 0, 1 of the first document, none of the second and third, 1, 2, 3 of the last.
  EXPECT_EQ(CountLiveSummaries(layout, 1).rows, 5 * 3);
  const double text_rows = 4 + 4 + 4 + 2 + 4 + 3 + 1 + 5 * 4;
  EXPECT_EQ(CountForwardFlops(config, layout).head, 2.0 * 24 * 37 * text_rows);
}

// What a whole model counts, layer by layer: the attention of a pass is the sum of brute force over its layers.
TEST(Cost, AttentionOfAPassIsThatOfItsLayers) {
  const std::vector<int32_t> first_chunk = {0, 0, 0, 0, 4, 4, 6, 0, 1, 1, 1, 1, 1, 1};
  const std::vector<int32_t> chunk_tokens = {4, 4, 4, 2, 4, 3, 2, 1, 4, 4, 4, 4, 4, 2};
  for (const FullLayers full_layers : {FullLayers::kAttend, FullLayers::kBypass}) {
    ModelConfig config = TinyModel(EveryKind());
    config.ksa.full_layers = full_layers;
    for (const bool documents : {false, true}) {
      const SummaryLayout layout =
          documents ? MakeLayout(config, 2, 26, first_chunk.data(), chunk_tokens.data()) : MakeLayout(config, 2, 26);
      int64_t pairs = 0;
      int64_t text_pairs = 0;
      for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
        const bool attends = layer < 4 && (layer == 0 || full_layers == FullLayers::kAttend);
        const PairCount counted = BruteForce(layout, WindowOf(*config.layers[static_cast<size_t>(layer)]), attends, 2);
        pairs += counted.Total();
        text_pairs += counted.OfTextQueries();
      }
      const ForwardFlops flops = CountForwardFlops(config, layout);
      EXPECT_EQ(flops.attention, 4.0 * 24 * static_cast<double>(pairs)) << documents;
      EXPECT_EQ(flops.text_pairs, static_cast<double>(text_pairs)) << documents;
    }
  }
}

// The calls of ranks that share sequences count together what one rank's call does.
TEST(Cost, PartsOfASequenceHaveTheirShareOfThePairs) {
  const std::vector<int32_t> first_chunk = {0, 0, 0, 0, 4, 4, 6, 0, 1, 1, 1, 1, 1, 1};
  const std::vector<int32_t> chunk_tokens = {4, 4, 4, 2, 4, 3, 2, 1, 4, 4, 4, 4, 4, 2};
  const ModelConfig config = TinyModel(EveryKind());
  for (const bool documents : {false, true}) {
    const SummaryLayout whole =
        documents ? MakeLayout(config, 2, 26, first_chunk.data(), chunk_tokens.data()) : MakeLayout(config, 2, 26);
    for (const LayerSpec& layer : config.layers) {
      const AttentionWindow window = WindowOf(*layer);
      for (const int32_t ranks : {1, 2, 3, 6}) {
        PairCount sum;
        for (int32_t rank = 0; rank < ranks; ++rank) {
          const SummaryLayout part = testing::RankLayout(whole, ranks, rank);
          sum.text += CountTextPairs(part, window).text;
          sum.summary += CountTextPairs(part, window).summary;
          sum.summary_query += CountSummaryPairs(part);
        }
        EXPECT_EQ(sum.OfTextQueries(), CountTextPairs(whole, window).Total()) << ranks << " ranks";
        EXPECT_EQ(sum.summary_query, CountSummaryPairs(whole)) << ranks << " ranks";
      }
    }
  }
}

// A range of queries, also one that ends inside chunks.
TEST(Cost, PairsOfARangeOfQueriesEqualBruteForce) {
  const ModelConfig config = TinyModel(EveryKind());
  SummaryLayout layout = MakeLayout(config, 1, 30);
  for (const Range range : {Range{0, 30}, Range{8, 20}, Range{5, 6}, Range{3, 17}, Range{30, 30}}) {
    layout.query_begin = range.begin;
    layout.query_end = range.end;
    for (const LayerSpec& layer : config.layers) {
      const AttentionWindow window = WindowOf(*layer);
      PairCount expected;
      for (int32_t i = range.begin; i < range.end; ++i) {
        const PairCount keys = CountKeys(layout, window, 0, {false, i});
        expected.text += keys.text;
        expected.summary += keys.summary;
      }
      const PairCount counted = CountTextPairs(layout, window);
      EXPECT_EQ(counted.text, expected.text) << range.begin;
      EXPECT_EQ(counted.summary, expected.summary) << range.begin;
    }
  }
}

TEST(Cost, PaperSizes) {
  // k = 8, w = 128: keys a query in the window and among summaries, rounded to whole keys, and full causal over them.
  ModelConfig config = TinyModel({KsaLayer(128)});
  config.ksa.chunk_size = 8;
  config.ksa.summary_tokens = 1;

  struct Row {
    int32_t tokens;
    double window, summaries, ratio;
  };

  for (const Row& row : std::vector<Row>{{8192, 964, 392, 3.02},
                                         {32768, 1012, 1922, 5.58},
                                         {131072, 1025, 8064, 7.21},
                                         {1048576, 1028, 65408, 7.89}}) {
    const SummaryLayout layout = MakeLayout(config, 1, row.tokens);
    const PairCount pairs = CountTextPairs(layout, WindowOf(*config.layers[0]));
    const PairCount full = CountTextPairs(layout, AttentionWindow::Full());
    EXPECT_EQ(full.text, int64_t{1} * row.tokens * (row.tokens + 1) / 2);
    EXPECT_NEAR(static_cast<double>(pairs.text) / row.tokens, row.window, 1.0);
    EXPECT_NEAR(static_cast<double>(pairs.summary) / row.tokens, row.summaries, 1.0);
    EXPECT_NEAR(KeysPerTextQuery(config, row.tokens), row.window + row.summaries, 1.0);
    EXPECT_NEAR(static_cast<double>(full.Total()) / static_cast<double>(pairs.Total()), row.ratio, 0.005);
  }
}

TEST(Cost, FlopsByHand) {
  // d = 24, q = 24, kv = 8, f = 40, T = 21: C = 6 chunks, live 6 - 1 - 2 = 3, 9 summary rows.
  const ModelConfig config = TinyModel({KsaLayer(2), FullLayer(), KsaLayer(2), FullLayer()});
  const SummaryLayout layout = MakeLayout(config, 1, 21);
  const ForwardFlops flops = CountForwardFlops(config, layout);
  const double row = 2.0 * (24 * 24 + 24 * 8 + 24 * 8 + 24 * 24 + 3 * 24 * 40);
  EXPECT_EQ(flops.linear, 4 * 21 * row);
  EXPECT_EQ(flops.summary_linear, 2 * 9 * row + 9 * 2.0 * (2 * 24 * 8));  // layers 0, 1; then keys and values
  EXPECT_EQ(flops.head, 2.0 * 24 * 37 * 21);
  // KSA: text sees 10 + 26 + 42 + 42 + 42 + 9 text and 12 + 24 + 9 summaries. Full: 231 text. A live summary triple
  // sees 3 · 4 text and 1 + 2 + 3 summaries.
  const int64_t ksa = 171 + 45;
  const int64_t summary_queries = 3 * 18;
  EXPECT_EQ(flops.attention, 4.0 * 6 * 4 * (ksa + summary_queries + 231 + summary_queries + ksa + 231));
  EXPECT_EQ(ForwardFlopsPerToken(config, 21), flops.Total() / 21);
  // A batch of three costs three times as much.
  EXPECT_EQ(CountForwardFlops(config, MakeLayout(config, 3, 21)).Total(), 3 * flops.Total());
}

TEST(Cost, ModelsWithoutKsaLayersHaveNoSummaryCost) {
  const ModelConfig config = TinyModel({FullLayer(), SwaLayer(4)});
  const SummaryLayout layout = MakeLayout(config, 1, 10);
  EXPECT_EQ(CountForwardFlops(config, layout).summary_linear, 0.0);
  EXPECT_EQ(CountForwardFlops(config, layout).attention, 4.0 * 24 * (55 + 1 + 2 + 3 + 7 * 4));
  EXPECT_EQ(KeysPerTextQuery(config, 10), (55.0 + 34.0) / 2 / 10);
}

TEST(Cost, ParametersByKind) {
  ModelConfig config = TinyModel(EveryKind());
  config.ksa.full_layers = FullLayers::kBypass;
  config.ksa.independent = {.embedding = true, .qkv = true, .norm = true, .qk_norm = true};
  const auto counts = CountParameters(config);
  const auto of = [&counts](ParameterKind kind) { return counts.at(static_cast<size_t>(kind)); };
  EXPECT_EQ(of(ParameterKind::kEmbedding), 37 * 24);
  EXPECT_EQ(of(ParameterKind::kHead), 37 * 24);
  EXPECT_EQ(of(ParameterKind::kAttention), 6 * (24 * 24 * 2 + 24 * 8 * 2));
  EXPECT_EQ(of(ParameterKind::kMlp), 6 * 3 * 24 * 40);
  EXPECT_EQ(of(ParameterKind::kNorm), 6 * (2 * 24 + 2 * 4) + 24);
  EXPECT_EQ(of(ParameterKind::kSummaryEmbedding), 3 * 24);
  EXPECT_EQ(of(ParameterKind::kSummaryAttention), 2 * (24 * 24 + 24 * 8 * 2));
  EXPECT_EQ(of(ParameterKind::kSummaryNorm), 2 * (24 + 2 * 4));
  int64_t total = 0;
  for (const ParameterSpec& spec : ParameterSpecs(config)) {
    total += spec.shape.size();
  }
  EXPECT_EQ(TotalParameters(config), total);
}

TEST(Cost, BlocksWithoutMlp) {
  ModelConfig config = TinyModel({KsaLayer(2), FullLayer()});
  const SummaryLayout layout = MakeLayout(config, 1, 21);
  const ForwardFlops with = CountForwardFlops(config, layout);
  const int64_t parameters = TotalParameters(config);
  const double mlp = 2.0 * 3 * config.hidden_size * config.intermediate_size;
  config.intermediate_size = 0;
  const ForwardFlops without = CountForwardFlops(config, layout);
  EXPECT_EQ(with.linear - without.linear, 2 * 21 * mlp);
  EXPECT_EQ(with.attention, without.attention);
  EXPECT_EQ(parameters - TotalParameters(config), 2 * (3 * 24 * 40 + 24));
}

TEST(Cost, KvCache) {
  // k = 4, m = 3. ksa w = 2: 12 text + 3 · 10 summaries; full 43; swa 7; sca w = 1: 8; ksa w = 4: 20 + 30; sca w =
  // 0: 4.
  const ModelConfig config = TinyModel(EveryKind());
  const CacheSize cache = CountKvCache(config, 43);
  EXPECT_EQ(cache.entries, (12 + 30) + 43 + 7 + 8 + (20 + 30) + 4);
  EXPECT_EQ(cache.bytes, cache.entries * 2 * 2 * 4 * 2);  // key and value, 2 heads of 4, two bytes
  EXPECT_EQ(CountKvCache(config, 43, DType::kF32).bytes, 2 * cache.bytes);
  // A short sequence keeps what it has.
  EXPECT_EQ(CountKvCache(config, 5).entries, (5 + 3) + 5 + 5 + 5 + (5 + 3) + 4);
}

TEST(Cost, Mfu) {
  EXPECT_EQ(Mfu(2e12, 1.5, std::nullopt), std::nullopt);
  EXPECT_DOUBLE_EQ(Mfu(2e12, 1.5, 10e12).value(), 0.4);
}

}  // namespace
}  // namespace ksa
