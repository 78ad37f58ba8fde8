// Runs one golden file by its attributes; see tests/golden/README.md.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/dtype.h"
#include "model/autograd/parameter.h"
#include "tests/golden/report.h"
#include "tests/support/h5_reader.h"
#include "tests/support/place.h"

namespace ksa::testing {

// Runs on the CPU whose most is the measure of a GPU's error. Of runs on the CPU that only round otherwise none of 80
// was off by more than twice the most of 16 after the twelve updates of train_wsd.h5 in bf16, but 10 of 60 by more than
// twice the most of 4 (none in fp32), and 34 of 60 in bf16 and 9 in fp32 by more than twice one run.
inline constexpr int kDraws = 16;

enum class Verdict : int { kPass, kFail, kSkip };

struct FileResult {
  Verdict verdict = Verdict::kFail;
  std::string text;  // worst error a quantity, or why it failed or was skipped
};

// Never throws: an unreadable file fails. On the CPU in fp64 and fp32, with bounds of their own; on a GPU in fp32 and
// in bf16, which err at most twice as much as the CPU in the same type where there is no bound for it. What a tensor is
// off by on the CPU is the most of several runs whose roundings fall differently: one run says little about a tensor of
// few numbers.
[[nodiscard]] FileResult RunGoldenFile(const std::string& path, const Place& place);

// Where and in which type a file is computed, and what it may be off by.
struct GoldenRun {
  Place place;
  DType dtype = DType::kF64;
  const Report* plain = nullptr;  // of the CPU in the same type, where that is the measure
  int draw = 0;                   // other than 0: weights are off by next to nothing, at random; see SetWeights

  // `bound` without plain. One rounding to the type is nobody's fault; fp32's sums have thousands of terms, in another
  // order than the CPU's, and losses that happen to round well.
  [[nodiscard]] double Bound(const std::string& quantity, const std::string& tensor, double bound) const {
    const double roundings = dtype == DType::kBF16 ? 1.0 : 16.0;
    return plain == nullptr ? bound : plain->Twice(quantity, tensor, roundings * UnitRoundoff(dtype));
  }
};

// The parts, by the kind of file. A model file: `variant` names the attribute that holds the configuration.
void RunModelFile(const H5Reader& file, const std::string& variant, const GoldenRun& run, Report& report);
void RunTrainFile(const H5Reader& file, int32_t micro_batch_size, const GoldenRun& run, Report& report);
void RunAttentionFile(const H5Reader& file, const GoldenRun& run, Report& report);
void RunPoolFile(const H5Reader& file, const GoldenRun& run, Report& report);
void RunMlaFile(const H5Reader& file, const GoldenRun& run, Report& report);
void RunDeltaRuleFile(const H5Reader& file, const GoldenRun& run, Report& report);
void RunGdnLayerFile(const H5Reader& file, const GoldenRun& run, Report& report);
void RunLayerFile(const H5Reader& file, const GoldenRun& run, Report& report);

// What tests/golden/README.md finds fair: of what a forward pass computes, and of gradients.
struct GoldenBounds {
  double forward;
  double gradients;
};

[[nodiscard]] GoldenBounds BoundsOf(DType dtype);

// What was computed against the dataset `name` of `group`.
void CompareDataset(const H5Reader& file,
                    const std::string& group,
                    const std::string& name,
                    const Tensor& actual,
                    double bound,
                    const GoldenRun& run,
                    Report& report);

// A dataset as a tensor of the run's type, in its place.
[[nodiscard]] Tensor LoadDataset(const H5Reader& file, const std::string& path, const GoldenRun& run);

// Sets every parameter to values_of(its specification). A draw other than 0 rounds otherwise from the first product on:
// weights are off by up to a quarter of a rounding to the run's type where they are kept in a finer one (bf16), else,
// every other one, by a unit in the last place (fp32, which has nothing finer).
void SetWeights(ParameterStore& store,
                const GoldenRun& run,
                const std::function<std::vector<double>(const ParameterSpec&)>& values_of);

// Sets every parameter from `group`; false where the names are not the model's, no more and no fewer, or a shape
// differs. Draws: as SetWeights.
[[nodiscard]] bool LoadWeights(
    const H5Reader& file, const std::string& group, ParameterStore& store, const GoldenRun& run, Report& report);

}  // namespace ksa::testing
