// Some updates of a problem on a mesh, and what its ranks hold afterwards, put together and compared.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "tests/parallel/equality/problem.h"
#include "trainer/loop/training_state.h"

namespace ksa::testing {

inline constexpr int64_t kUpdates = 5;
inline constexpr double kLearningRate = 1e-3;
inline constexpr double kClip = 0.3;  // less than the norm of any update of the problems

// What a rank holds of a tensor: the rows, or columns, of the whole from `begin` on.
struct HeldTensor {
  std::string name;
  Shape whole;
  Shape shape;
  bool columns = false;
  int64_t begin = 0;
  std::vector<double> values;  // row-major; NaN where another rank has the element
};

struct RankRun {
  std::vector<double> losses;  // of the updates, as every rank reports them
  std::vector<double> norms;
  std::vector<HeldTensor> gradients;  // of the first update, summed over all ranks, not clipped
  std::vector<HeldTensor> weights;    // after the last
};

// Where training stops and goes on: saved to a folder after so many updates, or loaded from it before the rest.
struct Resume {
  std::string folder;
  int64_t after = 0;  // updates; 0: none
  bool load = false;
};

// A rank of a run, as the trainer makes it; weights are initial ones.
struct Rank {
  Rank(Communicator& world, const Problem& problem, const RunLayout& layout);

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

// A run as numbers, for other ranks, and back; `like`: a run of the same problem on any rank.
[[nodiscard]] std::string Pack(const RankRun& run);
[[nodiscard]] RankRun Unpack(const std::string& bytes, const RankRun& like);

// The whole tensors, by name.
struct WholeRun {
  std::vector<double> losses;
  std::vector<double> norms;
  std::map<std::string, std::vector<double>> gradients;
  std::map<std::string, std::vector<double>> weights;

  friend bool operator==(const WholeRun&, const WholeRun&) = default;
};

// Fails the test where ranks report different losses or norms, or differ in a bit of an element that both hold, or
// where no rank holds an element.
[[nodiscard]] WholeRun Whole(const std::vector<RankRun>& ranks);

// Rank by rank: losses, norms and weights.
void ExpectSameBits(const std::vector<RankRun>& actual, const std::vector<RankRun>& expected);

// The losses and norms from update `first` on, and the weights.
[[nodiscard]] WholeRun Later(WholeRun run, int64_t first);

// The problem on one rank, all samples at once; computed once a process and problem.
[[nodiscard]] const WholeRun& OnOneRank(const Problem& problem);

// The largest of each, over updates and tensors; infinite where there is no number.
struct Difference {
  double loss = 0.0;       // relative
  double norm = 0.0;       // relative
  double gradient = 0.0;   // of an element, over the largest of its tensor
  double weight = 0.0;     // the same
  double weight_l2 = 0.0;  // of a tensor, relative
  std::string worst_gradient;
  std::string worst_weight;

  // Takes the larger ones.
  void Add(const Difference& other);
  [[nodiscard]] std::string ToString() const;
};

[[nodiscard]] Difference Compare(const WholeRun& actual, const WholeRun& expected);

// Fails the test where the difference is more than sums in another order explain: in fp64 1e-12, of weights 1e-11; in
// fp32 1e-5, of weights 5e-4.
void ExpectWithinBounds(const Difference& difference, DType precision);

}  // namespace ksa::testing
