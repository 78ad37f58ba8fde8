// Some updates of a problem on a mesh.
#pragma once

#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "tests/parallel/equality/problem.h"
#include "tests/parallel/equality/whole_run.h"
#include "trainer/step/training_state.h"

namespace ksa::testing {

inline constexpr int64_t kUpdates = 5;
inline constexpr double kLearningRate = 1e-3;
inline constexpr double kClip = 0.3;  // less than the norm of any update of the problems

// Where training stops and goes on: saved to a folder after so many updates, or loaded from it before the rest.
struct Resume {
  std::string folder;
  int64_t after = 0;  // updates; 0: none
  bool load = false;
};

// A rank of a run, as the trainer makes it; weights are initial ones.
struct Rank {
  // `watch`: as RuntimeOptions::watch_group.
  Rank(Communicator& world, const Problem& problem, const RunLayout& layout, const ProcessMesh::MakeGroup& watch = {});

  // This rank's samples of an update.
  [[nodiscard]] Batch Samples(int64_t update) const;

  Problem problem;
  Config config;
  Runtime runtime;
  TrainingState state;
};

// One rank's part, called by all ranks of `world`.
[[nodiscard]] RankRun Train(Communicator& world,
                            const Problem& problem,
                            const RunLayout& layout,
                            const Resume& resume = {});

// All ranks as threads of this process. Index: rank.
[[nodiscard]] std::vector<RankRun> TrainOnThreads(const Problem& problem,
                                                  const RunLayout& layout,
                                                  const Resume& resume = {});

// The problem on one rank, all samples at once; computed once a process and problem.
[[nodiscard]] const WholeRun& OnOneRank(const Problem& problem);

}  // namespace ksa::testing
