// Whole models on several tensor ranks, threads of this process, against one rank.
#include <cmath>
#include <functional>

#include "parallel/comm/threads.h"
#include "tests/model/ksa/model_cases.h"

namespace ksa {
namespace {

using testing::FindCase;
using testing::ModelCase;
using testing::ModelCases;
using testing::ModelHarness;
using testing::Outcome;
using testing::RelativeDifference;
using testing::ToDouble;

// Query and key/value heads, and the tensor ranks that divide them.
struct Heads {
  int32_t queries = 0;
  int32_t keys = 0;
  int ranks = 0;
};

// Fewer key/value heads than ranks at 4 and 6.
constexpr Heads kHeads[] = {{4, 2, 1}, {4, 2, 2}, {6, 3, 3}, {4, 2, 4}, {6, 3, 6}, {6, 1, 2}};

// Cases that stand for all where ranks are many.
constexpr const char* kFewCases[] = {
    "ksa, m 2, GQA, everything own", "ksa, nothing own, tied", "hybrid, bypass first", "anneal 0.3, everything own"};

// Nothing divides: 97 ids (99 where summaries are ids), 6 or 10 columns, 7 of the MLP, and rows as they come.
ModelCase WithHeads(ModelCase c, const Heads& heads) {
  c.config.num_attention_heads = heads.queries;
  c.config.num_key_value_heads = heads.keys;
  c.config.vocab_size = 97;
  c.config.hidden_size = 10;
  return c;
}

// What a rank holds of a parameter, and its gradient.
struct HeldGradient {
  ParameterSpec spec;
  Shape shape;
  int64_t begin = 0;
  std::vector<double> values;
};

// What a tensor rank saw of a run.
struct RankOutcome {
  double loss = 0.0;
  std::vector<double> hidden;
  std::vector<HeldGradient> gradients;
  CommCounts counts{};
};

// The case as every rank of a mesh; index: rank.
std::vector<RankOutcome> RunOn(
    int ranks, bool parts, const ModelCase& c, DType dtype, const ModelHarness::Options& options = {}) {
  std::vector<RankOutcome> outcomes(static_cast<size_t>(ranks));
  RunRanks(ranks, [&](Communicator& world) {
    const ProcessMesh mesh(world, {.tensor = ranks}, parts);
    ModelHarness harness(c, dtype, {}, &mesh);
    RankOutcome& mine = outcomes[static_cast<size_t>(world.rank())];
    const Outcome outcome = harness.Run(options);
    mine.loss = outcome.loss;
    mine.hidden = ToDouble(outcome.hidden);
    mine.counts = mesh.group(MeshAxis::kTensor).counts();
    for (size_t p = 0; p < outcome.gradients.size(); ++p) {
      const Parameter& parameter = harness.store().parameters()[p];
      mine.gradients.push_back({parameter.spec, parameter.shape, parameter.shard_begin, outcome.gradients[p]});
    }
  });
  return outcomes;
}

CommCount CountOf(const RankOutcome& rank, CollectiveKind kind) {
  return rank.counts[static_cast<size_t>(kind)];
}

// Adds a rank's part to a whole gradient.
void AddPart(const HeldGradient& part, std::vector<double>& whole) {
  const bool columns = part.spec.tensor == Placement::Sharded(1);
  const int64_t whole_width = part.spec.shape.size() / part.spec.shape[0];
  const int64_t width = columns ? part.shape[1] : whole_width;
  const int64_t first = columns ? part.begin : part.begin * whole_width;
  for (size_t i = 0; i < part.values.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / width;
    whole[static_cast<size_t>(first + row * whole_width + static_cast<int64_t>(i) % width)] += part.values[i];
  }
}

// The gradient of parameter `p` as an optimizer would have it: shards at their places, parts of sums added, and what is
// whole on every rank the same in bits.
std::vector<double> WholeGradient(const std::vector<RankOutcome>& ranks, size_t p) {
  const ParameterSpec& spec = ranks.front().gradients[p].spec;
  std::vector<double> whole(static_cast<size_t>(spec.shape.size()), 0.0);
  const bool same = spec.tensor == Placement::Replicated() && !spec.gradient_partial_over_tensor;
  for (const RankOutcome& rank : ranks) {
    if (!same || &rank == &ranks.front()) {
      AddPart(rank.gradients[p], whole);
    } else {
      EXPECT_EQ(rank.gradients[p].values, ranks.front().gradients[p].values) << spec.name << " differs between ranks";
    }
  }
  return whole;
}

double LargestOf(const std::vector<double>& values) {
  double largest = 0.0;
  for (const double x : values) {
    largest = std::max(largest, std::abs(x));
  }
  return largest;
}

// Each tensor relative to its largest element; those whose gradient is rounding noise, to 1e-3 of the largest of all.
void ExpectGradients(const std::vector<RankOutcome>& ranks, const Outcome& expected, double bound) {
  double largest = 0.0;
  for (const std::vector<double>& gradient : expected.gradients) {
    largest = std::max(largest, LargestOf(gradient));
  }
  for (size_t p = 0; p < expected.gradients.size(); ++p) {
    const std::vector<double> whole = WholeGradient(ranks, p);
    ASSERT_EQ(whole.size(), expected.gradients[p].size());
    const double scale = std::max(1e-3 * largest, LargestOf(expected.gradients[p]));
    double difference = 0.0;
    for (size_t i = 0; i < whole.size(); ++i) {
      const double d = std::abs(whole[i] - expected.gradients[p][i]);
      difference = d <= difference ? difference : d;
    }
    EXPECT_LT(difference / scale, bound) << ranks.front().gradients[p].spec.name;
  }
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
    const std::vector<RankOutcome> ranks = RunOn(heads.ranks, parts, c, DType::kF64);
    for (const RankOutcome& rank : ranks) {
      EXPECT_NEAR(rank.loss, expected.loss, 1e-12 * expected.loss);
      EXPECT_EQ(rank.loss, ranks.front().loss);
      EXPECT_EQ(rank.hidden, ranks.front().hidden);
    }
    EXPECT_LT(RelativeDifference(ranks.front().hidden, ToDouble(expected.hidden)), 1e-12);
    ExpectGradients(ranks, expected, 1e-12);
  });
}

// On one rank nothing moves, and nothing is added in another order.
TEST(TensorParallelTest, AMeshOfOneRankChangesNoBit) {
  for (const ModelCase& c : ModelCases()) {
    for (const bool parts : {false, true}) {
      SCOPED_TRACE(c.name);
      ModelHarness alone(c, DType::kBF16);
      const Outcome expected = alone.Run();
      const RankOutcome rank = RunOn(1, parts, c, DType::kBF16).front();
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
  for (const char* name : kFewCases) {
    for (const bool parts : {false, true}) {
      for (const DType dtype : {DType::kF64, DType::kBF16}) {
        const ModelCase c = WithHeads(FindCase(name), {6, 3, 3});
        const std::vector<RankOutcome> expected = RunOn(3, parts, c, dtype);
        for (const Recompute recompute : {Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
          SCOPED_TRACE(::testing::Message() << name << ", rows in parts: " << parts << ", " << NameOf(dtype)
                                            << ", recompute " << static_cast<int>(recompute));
          const std::vector<RankOutcome> ranks = RunOn(3, parts, c, dtype, {.recompute = recompute});
          for (size_t r = 0; r < ranks.size(); ++r) {
            EXPECT_EQ(ranks[r].loss, expected[r].loss);
            EXPECT_EQ(ranks[r].hidden, expected[r].hidden);
            for (size_t p = 0; p < ranks[r].gradients.size(); ++p) {
              EXPECT_EQ(ranks[r].gradients[p].values, expected[r].gradients[p].values)
                  << "rank " << r << ", " << ranks[r].gradients[p].spec.name;
            }
          }
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
      ExpectGradients(RunOn(4, parts, c, DType::kF32), expected, 1e-4);
      const std::vector<RankOutcome> ranks = RunOn(4, parts, c, DType::kBF16);
      for (const RankOutcome& rank : ranks) {
        EXPECT_NEAR(rank.loss, expected.loss, 0.05 * expected.loss);
        EXPECT_EQ(rank.loss, ranks.front().loss);
        EXPECT_EQ(rank.hidden, ranks.front().hidden);
      }
      for (size_t p = 0; p < expected.gradients.size(); ++p) {
        (void)WholeGradient(ranks, p);
      }
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
        const std::vector<RankOutcome> outcomes = RunOn(ranks, parts, c, DType::kBF16);
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
          const CommCount gathered = CountOf(outcomes[static_cast<size_t>(rank)], CollectiveKind::kAllGather);
          EXPECT_EQ(gathered.sent, gathers.sent * row_bytes + statistics);
          EXPECT_EQ(gathered.received, gathers.received * row_bytes + statistics);
          const CommCount exchanged = CountOf(outcomes[static_cast<size_t>(rank)], CollectiveKind::kExchange);
          EXPECT_EQ(exchanged.sent, scatters.sent * row_bytes);
          EXPECT_EQ(exchanged.received, scatters.received * row_bytes);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ksa
