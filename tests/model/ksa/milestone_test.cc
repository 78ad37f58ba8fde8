// What backward says it is done with is never written again.
#include "tests/model/ksa/model_cases.h"

namespace ksa {
namespace {

using testing::ModelCase;
using testing::ModelCases;
using testing::ModelHarness;
using testing::ToDouble;

// A gradient as it was when it was said to be complete; empty: nothing had been written.
struct Seen {
  bool complete = false;
  std::vector<double> values;
};

TEST(MilestoneTest, GradientsSaidToBeCompleteAreWhatTheyAreInTheEnd) {
  for (const ModelCase& c : ModelCases()) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
      SCOPED_TRACE(::testing::Message() << c.name << ", recompute " << static_cast<int>(recompute));
      ModelHarness harness(c, DType::kF32);
      std::vector<Parameter>& parameters = harness.store().parameters();
      std::vector<Seen> seen(parameters.size());
      int32_t expected_layer = c.config.num_hidden_layers;
      const auto on_gradients = [&](int32_t layer) {
        EXPECT_EQ(layer, expected_layer--);
        for (size_t p = 0; p < parameters.size(); ++p) {
          if (parameters[p].spec.first_layer >= layer && !seen[p].complete) {
            seen[p] = {true, parameters[p].grad_written ? ToDouble(parameters[p].grad) : std::vector<double>()};
          }
        }
      };
      const testing::Outcome outcome = harness.Run({.recompute = recompute, .on_gradients = on_gradients});
      EXPECT_EQ(expected_layer, -1) << "one call a layer, and one for what follows them";
      for (size_t p = 0; p < parameters.size(); ++p) {
        const ParameterSpec& spec = parameters[p].spec;
        EXPECT_EQ(seen[p].complete,
                  spec.kind != ParameterKind::kEmbedding && spec.kind != ParameterKind::kSummaryEmbedding)
            << spec.name;
        if (seen[p].complete) {
          const std::vector<double> zeros(outcome.gradients[p].size(), 0.0);
          EXPECT_EQ(seen[p].values.empty() ? zeros : seen[p].values, outcome.gradients[p]) << spec.name;
        }
      }
    }
  }
}

TEST(MilestoneTest, ReportingChangesNoBit) {
  const ModelCase c = ModelCases().front();
  ModelHarness harness(c, DType::kBF16);
  const testing::Outcome plain = harness.Run();
  const testing::Outcome told = harness.Run({.on_gradients = [](int32_t) {}});
  EXPECT_EQ(told.loss, plain.loss);
  EXPECT_EQ(told.gradients, plain.gradients);
}

}  // namespace
}  // namespace ksa
