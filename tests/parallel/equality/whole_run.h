// What the ranks of a run hold, put together and compared.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/core/dtype.h"
#include "kernels/core/shape.h"

namespace ksa::testing {

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

// `updates_alone`: whether weight_l2 is also of tensors that started at 0 and hold nothing but a few updates. What
// these are made of is the signs of gradients (AdamW), which bf16 decides where one is near 0.
[[nodiscard]] Difference Compare(const WholeRun& actual, const WholeRun& expected, bool updates_alone = true);

// Fails the test where the difference is more than sums in another order explain: in fp64 1e-12, of weights 1e-11; in
// fp32 1e-5, of weights 5e-4.
void ExpectWithinBounds(const Difference& difference, DType precision);

}  // namespace ksa::testing
