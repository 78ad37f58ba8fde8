// Runs one golden file by its attributes; see tests/golden/README.md.
#pragma once

#include <string>
#include <string_view>

#include "kernels/core/dtype.h"
#include "model/autograd/parameter.h"
#include "tests/golden/report.h"
#include "tests/support/h5_reader.h"

namespace ksa::testing {

enum class Verdict : int { kPass, kFail, kSkip };

struct FileResult {
  Verdict verdict = Verdict::kFail;
  std::string text;  // worst error a quantity, or why it failed or was skipped
};

// Never throws: an unreadable file fails.
[[nodiscard]] FileResult RunGoldenFile(const std::string& path);

// The parts, by the kind of file. A model file: `variant` names the attribute that holds the configuration.
void RunModelFile(const H5Reader& file, const std::string& variant, DType dtype, Report& report);
void RunTrainFile(const H5Reader& file, int32_t micro_batch_size, Report& report);
void RunAttentionFile(const H5Reader& file, DType dtype, Report& report);

// Sets every parameter from `group`; the names must be the model's, no more and no fewer.
void LoadWeights(const H5Reader& file, const std::string& group, ParameterStore& store, Report& report);

}  // namespace ksa::testing
