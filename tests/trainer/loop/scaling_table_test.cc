// The table of docs/scaling.md is what the estimate says. When it is not, the test prints the table to put there.
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "model/ksa/step_estimate.h"
#include "trainer/config/load.h"

namespace ksa {
namespace {

constexpr int32_t kLength = 131072;

struct Case {
  MeshShape mesh;
  int32_t micro_batches = 1;
  bool recompute = false;
};

// Global batches of 8 sequences on 8 GPUs, 64 on more; and as few as one where a sequence is spread as far as it goes.
const std::vector<Case> kCases = {{{8, 1, 1}, 1, true},
                                  {{2, 4, 1}, 4, false},
                                  {{1, 8, 1}, 8, false},
                                  {{1, 4, 2}, 8, false},
                                  {{16, 4, 1}, 4, false},
                                  {{8, 8, 1}, 8, false},
                                  {{8, 4, 2}, 8, false},
                                  {{4, 16, 1}, 16, false},
                                  {{1, 64, 1}, 1, false},
                                  {{64, 8, 1}, 1, false},
                                  {{64, 4, 2}, 1, false},
                                  {{32, 16, 1}, 2, false},
                                  {{8, 64, 1}, 1, false}};

std::string RowOf(const Case& run, const ModelConfig& model, const DeviceFigures& figures) {
  const StepProblem problem = {.model = model,
                               .sequence_length = kLength,
                               .micro_batches = run.micro_batches,
                               .mesh = run.mesh,
                               .sequence_parallel = run.mesh.tensor > 1,
                               .recompute = run.recompute ? Recompute::kBlock : Recompute::kNone};
  const StepEstimate estimate = EstimateStep(problem, figures);
  const auto exposed = [&](TrafficGroup group) { return 1e3 * estimate.Of(group).exposed; };
  const double tokens = TokensPerSecond(problem, estimate);
  return fmt::format(
      "| {} | {} x {} x {} | {} | {} | {:.0f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.0f}K | {:.1f}K |\n",
      run.mesh.size(),
      run.mesh.data,
      run.mesh.context,
      run.mesh.tensor,
      run.recompute ? "block" : "none",
      run.mesh.data * run.micro_batches,
      1e3 * estimate.Step(),
      exposed(TrafficGroup::kState),
      exposed(TrafficGroup::kContext),
      exposed(TrafficGroup::kTensor),
      100.0 * Utilisation(problem, figures, estimate),
      1e-3 * tokens,
      1e-3 * tokens / static_cast<double>(run.mesh.size()));
}

TEST(ScalingTable, IsThatOfTheDocument) {
  std::string table =
      "| GPUs | data x context x tensor | recompute | sequences | step ms | exposed: gradients, weights ms | context "
      "ms "
      "| tensor ms | MFU % | tokens/s | a GPU |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n";
  const ModelConfig model = LoadModelConfig("configs/model/ksa_1b9.yaml", kLength);
  for (const Case& run : kCases) {
    table += RowOf(run, model, H200Figures());
  }
  std::stringstream text;
  text << std::ifstream("docs/scaling.md").rdbuf();
  EXPECT_NE(text.str().find(table), std::string::npos) << "docs/scaling.md should hold:\n" << table;
}

}  // namespace
}  // namespace ksa
