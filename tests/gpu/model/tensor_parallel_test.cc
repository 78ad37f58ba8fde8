// Whole models on two tensor ranks with NCCL between them: as accurate as one rank, and the same bits every time.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/core/arena.h"
#include "kernels/core/gpu.h"
#include "model/ksa/parameters.h"
#include "parallel/comm/nccl.h"
#include "parallel/comm/threads.h"
#include "tests/gpu/model/cpu_errors.h"
#include "tests/gpu/model/larger_case.h"
#include "tests/gpu/ranks_on_gpus.h"
#include "tests/model/ksa/mesh_run.h"

namespace ksa::testing {
namespace {

constexpr int kRanks = 2;
constexpr int64_t kMemory = int64_t{1} << 30;

constexpr const char* kCases[] = {"ksa, m 2, GQA, everything own",
                                  "ksa, nothing own, tied",
                                  "anneal 0.3, everything own",
                                  "hybrid, attend",
                                  "hybrid, bypass",
                                  "documents, hybrid, m 2, everything own",
                                  "documents, short_conv",
                                  "hca, overlap, rope none, short_conv",
                                  "ksa of latents, everything own, m 2, annealed"};

class GpuTensorParallelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotOnGpus(kRanks); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }

  // Rank r on GPU r. Memory is taken at once: while ranks talk the driver must not be asked for more (it would wait for
  // kernels that wait for the other rank).
  static std::vector<RankOutcome> Run(const ModelCase& c,
                                      DType dtype,
                                      bool parts,
                                      const ModelHarness::Options& options = {}) {
    std::vector<RankOutcome> outcomes(kRanks);
    RunRanks(kRanks, [&](Communicator& world) {
      GpuStream queue(world.rank(), 1);
      GpuSlabs slabs(world.rank());
      ArenaAllocator memory(slabs, kMemory);
      const Stream& stream = queue.stream();
      const ProcessMesh mesh(world, {.tensor = kRanks}, parts, [&](std::unique_ptr<Communicator> host) {
        return host->size() == 1 ? std::move(host) : MakeNcclCommunicator(std::move(host), stream.device);
      });
      outcomes[static_cast<size_t>(world.rank())] = RunRank(mesh, c, dtype, {stream, &memory}, options);
      Synchronize(stream);
      world.Barrier();  // nobody frees memory while another's kernels may run
    });
    return outcomes;
  }
};

// The rule of single GPUs: at most twice the error of the CPU in the same type, or of what is typical there.
TEST_F(GpuTensorParallelTest, LossAndGradientsAreAsAccurateAsOnTheCpu) {
  for (const char* name : kCases) {
    for (const bool parts : {false, true}) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        SCOPED_TRACE(fmt::format("{}, rows in parts: {}, {}", name, parts, NameOf(dtype)));
        const ModelCase c = Larger(FindCase(name), 64);
        const CpuMeasure cpu = MeasureCpu(c, dtype);
        const WholeOutcome actual = Whole(Run(c, dtype, parts));
        const double unit = UnitRoundoff(dtype);
        EXPECT_LE(std::abs(actual.loss - cpu.exact.loss), (2.0 * cpu.errors.loss + unit) * cpu.exact.loss);
        const std::vector<double> errors = GradientErrors(actual.gradients, cpu.exact.gradients);
        const std::vector<ParameterSpec> specs = ParameterSpecs(c.config);
        for (size_t p = 0; p < errors.size(); ++p) {
          EXPECT_LE(errors[p], 2.0 * std::max(cpu.errors.gradients[p], cpu.errors.Typical()) + unit)
              << specs[p].name << ", plain " << cpu.errors.gradients[p] << ", typical " << cpu.errors.Typical();
        }
      }
    }
  }
}

TEST_F(GpuTensorParallelTest, RunsAndPoliciesOfRecomputationAgreeInBits) {
  for (const char* name : kCases) {
    for (const bool parts : {false, true}) {
      const ModelCase c = Larger(FindCase(name), 64);
      const std::vector<RankOutcome> first = Run(c, DType::kBF16, parts);
      for (const Recompute recompute : {Recompute::kNone, Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
        SCOPED_TRACE(fmt::format("{}, rows in parts: {}, recompute {}", name, parts, static_cast<int>(recompute)));
        ExpectSameBits(Run(c, DType::kBF16, parts, {.recompute = recompute}), first);
      }
    }
  }
}

}  // namespace
}  // namespace ksa::testing
