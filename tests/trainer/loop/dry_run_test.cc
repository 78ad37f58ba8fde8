// The estimate of a dry run, by hand.
#include "trainer/loop/dry_run.h"

#include <gtest/gtest.h>

namespace ksa {
namespace {

constexpr int64_t kMib = int64_t{1} << 20;

DryRunFigures Example() {
  return {.step_ms = {1000.0, 190.0, 210.0},
          .tokens_an_update = 2000,
          .updates = 1800,
          .validations = 18,
          .validation_seconds = 10.0,
          .checkpoints = 4,
          .checkpoint_bytes = 3 * kMib,
          .memory = 512 * kMib,
          .memory_total = 2048 * kMib};
}

TEST(DryRun, LeavesTheFirstUpdateOut) {
  EXPECT_EQ(
      RenderDryRun(Example()),
      (std::vector<std::string>{
          "a step takes 200.0 ms (190.0 and 210.0 ms; the first, 1000.0 ms, is not counted), 10.0K tokens a second",
          "the run takes about 9m00s: 1800 updates in 6m00s, 18 validations of 10.0 s in 3m00s",
          "not counted: 4 checkpoints of 3.0 MiB, which depend on the disk",
          "memory: 512.0 MiB of 2.0 GiB",
          "dry run: 3 updates done in memory, nothing written"}));
}

TEST(DryRun, OneUpdateIsAllThereIs) {
  DryRunFigures figures = Example();
  figures.step_ms = {1500.0};
  figures.updates = 1;
  figures.validations = 0;
  figures.validation_seconds.reset();
  const std::vector<std::string> lines = RenderDryRun(figures);
  EXPECT_EQ(lines[0], "a step takes 1500.0 ms or less (one update is left; it also loads code)");
  EXPECT_EQ(lines[1], "the run takes about 2s: 1 updates in 2s");
  EXPECT_EQ(lines.back(), "dry run: 1 update done in memory, nothing written");
}

}  // namespace
}  // namespace ksa
