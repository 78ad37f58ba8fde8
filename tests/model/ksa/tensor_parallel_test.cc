// Whole models on several tensor ranks, threads of this process, against one rank.
#include <functional>

#include "model/mixers/gdn/gdn.h"
#include "tests/model/ksa/mesh_run.h"

namespace ksa {
namespace {

using testing::FindCase;
using testing::ModelCase;
using testing::ModelCases;
using testing::ModelHarness;
using testing::Outcome;
using testing::RankOutcome;
using testing::RunOnMesh;
using testing::ToDouble;
using testing::Whole;
using testing::WholeOutcome;

// Query and key/value heads, and the tensor ranks that divide them.
struct Heads {
  int32_t queries = 0;
  int32_t keys = 0;
  int ranks = 0;
};

// Fewer key/value heads than ranks at 4 and 6.
constexpr Heads kHeads[] = {{4, 2, 1}, {4, 2, 2}, {6, 3, 3}, {4, 2, 4}, {6, 3, 6}, {6, 1, 2}};

// Cases that stand for all where ranks are many.
constexpr const char* kFewCases[] = {"ksa, m 2, GQA, everything own",
                                     "ksa, nothing own, tied",
                                     "hybrid, bypass first",
                                     "anneal 0.3, everything own",
                                     "short_conv, ksa, m 2, GQA, everything own",
                                     "hca, overlap, rope none, short_conv",
                                     "ksa of latents, everything own, m 2, annealed",
                                     "documents, latents, short_conv",
                                     "gdn, ksa, m 2, everything own",
                                     "documents, gdn, ksa and full"};

// Nothing divides: 97 ids (99 where summaries are ids), 6 or 10 columns, 7 of the MLP, and rows as they come.
ModelCase WithHeads(ModelCase c, const Heads& heads) {
  c.config.num_attention_heads = heads.queries;
  c.config.num_key_value_heads = heads.keys;
  GdnConfig& gdn = c.config.mixers.Of<GdnConfig>();
  gdn.value_heads = gdn.value_heads / gdn.key_heads * heads.queries;
  gdn.key_heads = heads.queries;
  c.config.vocab_size = 97;
  c.config.hidden_size = 10;
  return c;
}

CommCount CountOf(const RankOutcome& rank, CollectiveKind kind) {
  return rank.counts[static_cast<size_t>(kind)];
}

void ForAll(const std::function<void(const ModelCase& c, const Heads& heads, bool parts)>& test) {
  for (const ModelCase& plain : ModelCases()) {
    for (const Heads& heads : kHeads) {
      const ModelCase c = WithHeads(plain, heads);
      for (const bool parts : {false, true}) {
        SCOPED_TRACE(::testing::Message() << c.name << ", " << heads.queries << " heads, " << heads.keys << " of keys, "
                                          << heads.ranks << " ranks, rows in parts: " << parts);
        test(c, heads, parts);
      }
    }
  }
}

TEST(TensorParallelTest, LossAndGradientsAreThoseOfOneRank) {
  ForAll([](const ModelCase& c, const Heads& heads, bool parts) {
    ModelHarness alone(c, DType::kF64);
    const Outcome expected = alone.Run();
    ExpectWithin(1e-12, Whole(RunOnMesh({.tensor = heads.ranks}, parts, c, DType::kF64)), expected);
  });
}

// Three chunks of a slice, and a last one that is short.
TEST(TensorParallelTest, WithContextParallelism) {
  for (const ModelCase& plain : ModelCases()) {
    for (const Heads& heads : {Heads{4, 2, 2}, Heads{6, 3, 3}, Heads{4, 1, 2}}) {
      ModelCase c = WithHeads(plain, heads);
      c.tokens = c.documents.empty() ? 13 * c.config.ChunkSize() - 1 : c.tokens;
      if (c.tokens < 4 * c.config.ChunkSize()) {
        continue;
      }
      ModelHarness alone(c, DType::kF64);
      const Outcome expected = alone.Run();
      for (const bool parts : {false, true}) {
        SCOPED_TRACE(::testing::Message() << c.name << ", 2 x " << heads.ranks << " ranks, rows in parts: " << parts);
        ExpectWithin(1e-12, Whole(RunOnMesh({.context = 2, .tensor = heads.ranks}, parts, c, DType::kF64)), expected);
      }
    }
  }
}

// On one rank nothing moves, and nothing is added in another order.
TEST(TensorParallelTest, AMeshOfOneRankChangesNoBit) {
  for (const ModelCase& c : ModelCases()) {
    for (const bool parts : {false, true}) {
      SCOPED_TRACE(c.name);
      ModelHarness alone(c, DType::kBF16);
      const Outcome expected = alone.Run();
      const RankOutcome rank = RunOnMesh({}, parts, c, DType::kBF16).front();
      EXPECT_EQ(rank.loss, expected.loss);
      EXPECT_EQ(rank.hidden, ToDouble(expected.hidden));
      for (size_t p = 0; p < expected.gradients.size(); ++p) {
        EXPECT_EQ(rank.gradients[p].values, expected.gradients[p]) << rank.gradients[p].spec.name;
      }
      EXPECT_EQ(CountOf(rank, CollectiveKind::kAllGather).calls, 0);
      EXPECT_EQ(CountOf(rank, CollectiveKind::kExchange).calls, 0);
    }
  }
}

TEST(TensorParallelTest, RecomputeEqualsNoneInBits) {
  const MeshShape shape = {.tensor = 3};
  for (const char* name : kFewCases) {
    for (const bool parts : {false, true}) {
      for (const DType dtype : {DType::kF64, DType::kBF16}) {
        const ModelCase c = WithHeads(FindCase(name), {6, 3, 3});
        const std::vector<RankOutcome> expected = RunOnMesh(shape, parts, c, dtype);
        for (const Recompute recompute : {Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
          SCOPED_TRACE(::testing::Message() << name << ", rows in parts: " << parts << ", " << NameOf(dtype)
                                            << ", recompute " << static_cast<int>(recompute));
          ExpectSameBits(RunOnMesh(shape, parts, c, dtype, {.recompute = recompute}), expected);
        }
      }
    }
  }
}

// bf16: partial products are rounded before they are added, so not the bits of one rank; but all ranks have the same.
TEST(TensorParallelTest, LowerPrecisionIsNearAndTheSameOnAllRanks) {
  for (const char* name : kFewCases) {
    for (const bool parts : {false, true}) {
      SCOPED_TRACE(::testing::Message() << name << ", rows in parts: " << parts);
      const ModelCase c = WithHeads(FindCase(name), {4, 2, 4});
      ModelHarness exact(c, DType::kF64);
      const Outcome expected = exact.Run();
      ExpectWithin(1e-4, Whole(RunOnMesh({.tensor = 4}, parts, c, DType::kF32)), expected);
      const WholeOutcome bf16 = Whole(RunOnMesh({.tensor = 4}, parts, c, DType::kBF16));
      EXPECT_NEAR(bf16.loss, expected.loss, 0.05 * expected.loss);
    }
  }
}

// --- bytes

// The rows that enter products, and those whose sums leave them, in a forward pass.
struct Crossings {
  std::vector<RowCounts> enter;
  std::vector<RowCounts> reduce;
};

Crossings CrossingsOf(const ModelCase& c) {
  const ModelConfig& config = c.config;
  const SummaryLayout layout = MakeLayout(config, c.sequences, c.tokens);
  const RowCounts text = {layout.text_rows()};
  const RowCounts all = {layout.text_rows(), layout.summary_rows()};
  Crossings crossings;
  crossings.reduce = {all};  // the embedding
  for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const bool attend = layer < config.LastKsaLayer() && config.SummariesAttend(layer);
    crossings.enter.push_back(attend || layer == config.LastKsaLayer() ? all : text);
    crossings.reduce.push_back(attend ? all : text);
    crossings.enter.push_back(attend ? all : text);
    crossings.reduce.push_back(attend ? all : text);
  }
  crossings.enter.push_back(text);  // the head
  return crossings;
}

// Rows that leave and reach a rank.
struct Traffic {
  int64_t sent = 0;
  int64_t received = 0;

  // Everybody's part to everybody.
  void Gather(int64_t rows, int ranks, int rank) {
    const int64_t own = EvenPart(rows, ranks, rank).size();
    sent += own * (ranks - 1);
    received += rows - own;
  }

  // Of every row, what was computed of it, to its rank.
  void Scatter(int64_t rows, int ranks, int rank) {
    const int64_t own = EvenPart(rows, ranks, rank).size();
    sent += rows - own;
    received += own * (ranks - 1);
  }
};

TEST(TensorParallelTest, BytesAreThoseOfTheRows) {
  for (const char* name : kFewCases) {
    for (const int ranks : {2, 4}) {
      for (const bool parts : {false, true}) {
        const ModelCase c = WithHeads(FindCase(name), {4, 2, ranks});
        const Crossings crossings = CrossingsOf(c);
        const std::vector<RankOutcome> outcomes = RunOnMesh({.tensor = ranks}, parts, c, DType::kBF16);
        for (int rank = 0; rank < ranks; ++rank) {
          SCOPED_TRACE(::testing::Message() << name << ", rank " << rank << " of " << ranks << ", in parts " << parts);
          Traffic gathers;
          Traffic scatters;
          // Forward and backward: what enters is gathered and its gradient scattered, what is reduced the other way
          // round. Whole rows need both for every sum, and nothing else.
          const auto cross = [&](const RowCounts& rows) {
            for (const int64_t run : parts ? std::vector{rows.text, rows.summaries} : std::vector{rows.total()}) {
              gathers.Gather(run, ranks, rank);
              scatters.Scatter(run, ranks, rank);
            }
          };
          for (const RowCounts& rows : crossings.enter) {
            cross(rows);
          }
          for (const RowCounts& rows : crossings.reduce) {
            cross(rows);
          }
          const int64_t text = crossings.enter.back().text;
          if (parts) {
            gathers.Gather(text, ranks, rank);  // of the harness, to look at
          }
          const int64_t row_bytes = c.config.hidden_size * SizeOf(DType::kBF16);
          const int64_t statistics = text * 3 * SizeOf(DType::kF32) * (ranks - 1);  // of the loss
          // Parts of rows are messages; whole rows are gathered by the communicator, and so are statistics.
          Traffic messages = scatters;
          if (parts) {
            messages.sent += gathers.sent;
            messages.received += gathers.received;
            gathers = {};
          }
          const CommCount gathered = CountOf(outcomes[static_cast<size_t>(rank)], CollectiveKind::kAllGather);
          EXPECT_EQ(gathered.sent, gathers.sent * row_bytes + statistics);
          EXPECT_EQ(gathered.received, gathers.received * row_bytes + statistics);
          const CommCount exchanged = CountOf(outcomes[static_cast<size_t>(rank)], CollectiveKind::kExchange);
          EXPECT_EQ(exchanged.sent, messages.sent * row_bytes);
          EXPECT_EQ(exchanged.received, messages.received * row_bytes);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ksa
