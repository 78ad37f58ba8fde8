// The tables of docs/scaling.md are what the plan says. Where they are not, the test prints what should be there.
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "trainer/config/load.h"
#include "trainer/loop/run_plan.h"

namespace ksa {
namespace {

struct Case {
  int ranks;
  int sequences;  // of the global batch
};

RunPlan PlanOf(const Case& run) {
  Config config =
      LoadConfig("configs/train/ksa_1b9_8k.yaml",
                 {"training.sequence_length=131072", fmt::format("training.global_batch_size={}", run.sequences)})
          .config;
  ResolveForGpu(config);
  return PlanRun(config, FindDevice("H200"), {.ranks = run.ranks, .search = true});
}

TEST(ScalingTable, IsThatOfTheDocument) {
  std::stringstream text;
  text << std::ifstream("docs/scaling.md").rdbuf();
  for (const Case& run : {Case{8, 8}, Case{64, 64}, Case{512, 64}}) {
    const std::string table = MeshTable(PlanOf(run), kMeshesShown).Text();
    EXPECT_NE(text.str().find(table), std::string::npos)
        << "docs/scaling.md should hold for " << run.ranks << " ranks:\n"
        << table;
  }
}

}  // namespace
}  // namespace ksa
