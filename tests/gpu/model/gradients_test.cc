// Whole models on the GPU: losses, hidden states and the gradient of every parameter against the CPU in fp64.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "tests/gpu/model/cpu_errors.h"
#include "tests/gpu/model/larger_case.h"
#include "tests/gpu/support.h"
#include "tests/model/ksa/mesh_run.h"

namespace ksa::testing {
namespace {

double RootOfMeanSquare(const std::vector<double>& x) {
  double squares = 0.0;
  for (const double value : x) {
    squares += value * value;
  }
  return std::sqrt(squares / static_cast<double>(x.size()));
}

// All that has kernels for GPUs; what has none is refused there by name (ModelConfig::GpuProblem).
std::vector<ModelCase> GpuCases() {
  std::vector<ModelCase> cases;
  for (const ModelCase& c : ModelCases()) {
    if (const std::string problem = c.config.GpuProblem(); problem.empty()) {
      cases.push_back(c);
    } else {
      fmt::print("left out, {}: {}\n", c.name, problem);
    }
  }
  return cases;
}

// A case on the GPU, and on the CPU in the same type, against fp64 with the weights that both have after rounding.
struct CaseErrors {
  Errors actual;
  Errors plain;
  std::vector<std::string> names;  // of the parameters
};

class GpuModelTest : public GpuTest {
 protected:
  [[nodiscard]] Place gpu() const { return {stream(), &device()}; }

  [[nodiscard]] CaseErrors Run(const ModelCase& c, DType dtype) const {
    const CpuMeasure cpu = MeasureCpu(c, dtype);
    ModelHarness actual(c, dtype, gpu());
    CaseErrors errors = {ErrorsOf(actual.Run(), cpu.exact), cpu.errors, {}};
    for (const Parameter& parameter : actual.store().parameters()) {
      errors.names.push_back(parameter.spec.name);
    }
    return errors;
  }

  // At most twice the error of the same computation on the CPU, the most of several draws. What rounds well by luck all
  // the same is allowed twice the typical error, and one rounding.
  void ExpectTwiceAtMost(const ModelCase& c, DType dtype) const {
    SCOPED_TRACE(fmt::format("{}, {}", c.name, NameOf(dtype)));
    const double unit = UnitRoundoff(dtype);
    const CaseErrors errors = Run(c, dtype);
    const Errors& plain = errors.plain;
    EXPECT_LE(errors.actual.loss, 2.0 * plain.loss + unit);
    EXPECT_LE(errors.actual.hidden, 2.0 * plain.hidden + unit);
    const double typical = plain.Typical();
    for (size_t p = 0; p < plain.gradients.size(); ++p) {
      EXPECT_LE(errors.actual.gradients[p], 2.0 * std::max(plain.gradients[p], typical) + unit)
          << errors.names[p] << ", plain " << plain.gradients[p] << ", typical " << typical;
    }
  }
};

TEST_F(GpuModelTest, SmallModelsInBf16AreAsAccurateAsOnTheCpu) {
  for (const ModelCase& c : GpuCases()) {
    ExpectTwiceAtMost(c, DType::kBF16);
  }
}

// Sums of six products round a few times only, so that single errors of fp32 are a matter of luck on either side: each
// is held against the bounds of the golden files, and all together against the CPU's.
TEST_F(GpuModelTest, SmallModelsInFp32AreAsAccurateAsOnTheCpu) {
  std::vector<double> actual;
  std::vector<double> plain;
  for (const ModelCase& c : GpuCases()) {
    SCOPED_TRACE(c.name);
    const CaseErrors errors = Run(c, DType::kF32);
    EXPECT_LE(errors.actual.loss, 2e-5);
    EXPECT_LE(errors.actual.hidden, 2e-5);
    for (size_t p = 0; p < errors.names.size(); ++p) {
      EXPECT_LE(errors.actual.gradients[p], 1e-4) << errors.names[p];
      actual.push_back(errors.actual.gradients[p]);
      plain.push_back(errors.plain.gradients[p]);
    }
  }
  fmt::print("gradients of {} parameters: typical error {:.1e}, on the CPU {:.1e}\n",
             actual.size(),
             RootOfMeanSquare(actual),
             RootOfMeanSquare(plain));
  EXPECT_LE(RootOfMeanSquare(actual), 2.0 * RootOfMeanSquare(plain));
}

TEST_F(GpuModelTest, ModelsOnTensorCoresAreAsAccurateAsOnTheCpu) {
  for (const ModelCase& c : GpuCases()) {
    ExpectTwiceAtMost(Larger(c, 64), DType::kBF16);
  }
  for (const char* name : {"ksa, m 2, GQA, everything own",
                           "hybrid, attend",
                           "documents, ksa",
                           "swa, sca, full",
                           "short_conv, full, swa and sca",
                           "hca, overlap, rope none, short_conv"}) {
    ExpectTwiceAtMost(Larger(FindCase(name), 128), DType::kBF16);
    ExpectTwiceAtMost(Larger(FindCase(name), 128), DType::kF32);
  }
}

TEST_F(GpuModelTest, RunsAndPoliciesOfRecomputationAgreeInBits) {
  for (const char* name : {"ksa, m 2, GQA, everything own",
                           "anneal 0.3, everything own",
                           "hybrid, attend",
                           "hybrid, bypass",
                           "documents, hybrid, m 2, everything own",
                           "full, tied, GQA",
                           "documents, short_conv",
                           "documents, hca, short_conv",
                           "ksa of latents, everything own, m 2, annealed",
                           "gdn, two chunks of its own",
                           "documents, gdn, ksa and full"}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      ModelHarness harness(Larger(FindCase(name), 64), dtype, gpu());
      const Outcome first = harness.Run();
      for (const Recompute recompute : {Recompute::kNone, Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
        SCOPED_TRACE(fmt::format("{}, {}, recompute {}", name, NameOf(dtype), static_cast<int>(recompute)));
        const Outcome again = harness.Run({.recompute = recompute});
        EXPECT_EQ(again.loss, first.loss);
        ExpectSameBits(again.hidden, first.hidden, "hidden states");
        EXPECT_EQ(again.gradients, first.gradients);
      }
    }
  }
}

// Dead summary rows change no result, and are really left out: fresh memory is NaN, which nobody may read.
TEST_F(GpuModelTest, DeadSummariesChangeNothing) {
  for (const char* name : {"ksa, m 2, GQA, everything own", "hybrid, attend", "documents, ksa"}) {
    SCOPED_TRACE(name);
    ModelHarness harness(FindCase(name), DType::kF32, gpu());
    const Outcome some = harness.Run();
    const Outcome all = harness.Run({.all_chunks_live = true});
    // Sums over rows are cut elsewhere: a few roundings.
    EXPECT_NEAR(all.loss, some.loss, 1e-6 * some.loss);
    for (const double error : GradientErrors(all.gradients, some.gradients)) {
      EXPECT_LT(error, 1e-4);
    }
  }
}

}  // namespace
}  // namespace ksa::testing
