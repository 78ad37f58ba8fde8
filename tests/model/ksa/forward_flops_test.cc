// Operations of what not every row goes through, against numbers worked out by hand.
#include "model/ksa/cost.h"
#include "model/ksa/model.h"
#include "model/mixers/full/full.h"
#include "tests/model/ksa/model_cases.h"

namespace ksa {
namespace {

double LinearFlops(const ModelConfig& config) {
  return CountForwardFlops(config, MakeLayout(config, 1, 19)).linear;
}

// Two layers of hca with windows of 1 and 0 chunks: of 19 tokens in chunks of 3, 15 and 18 rows are pooled, each by
// three products of its own; and taps weigh every row.
TEST(ForwardFlopsTest, EntriesAndTapsTakeTheRowsThatTheyAreMadeOf) {
  const ModelConfig hca = testing::FindCase("hca").config;
  ModelConfig full = hca;
  full.layers = {FullLayer(), FullLayer()};
  ModelConfig taps = hca;
  taps.layers = {FullLayer({.short_conv = 4}), FullLayer()};
  const int64_t columns = int64_t{1} * hca.num_key_value_heads * hca.head_dim;
  const int64_t pooled = int64_t{2} * 3 * columns * hca.hidden_size * (15 + 18);
  EXPECT_EQ(LinearFlops(hca) - LinearFlops(full), static_cast<double>(pooled));
  const int64_t convolved = int64_t{1} * (hca.num_attention_heads + 2 * hca.num_key_value_heads) * hca.head_dim;
  EXPECT_EQ(LinearFlops(taps) - LinearFlops(full), static_cast<double>(2 * 4 * convolved * 19));
}

}  // namespace
}  // namespace ksa
