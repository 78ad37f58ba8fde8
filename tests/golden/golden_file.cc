#include "tests/golden/golden_file.h"

#include <exception>
#include <set>
#include <vector>

#include <fmt/core.h>

#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

// Every part of a file in one type at one place.
void RunParts(const H5Reader& file, const std::string& format, const GoldenRun& run, Report& report) {
  if (format == "ksa-golden-1") {
    RunModelFile(file, "config", run, report);
    if (file.HasAttribute("/", "config_full_attend")) {
      RunModelFile(file, "config_full_attend", run, report);
    }
  } else if (format == "ksa-golden-attention-1") {
    RunAttentionFile(file, run, report);
  } else {
    RunTrainFile(file, 1, run, report);
    RunTrainFile(file, 2, run, report);
  }
}

// What a file is run in, and whether the CPU in the same type is the measure of it.
struct Precision {
  DType dtype;
  bool needs_plain;
};

std::vector<Precision> PrecisionsOf(const std::string& format, const Place& place) {
  const bool trains = format == "ksa-golden-train-1";
  if (place.stream.device.IsCpu()) {
    return trains ? std::vector<Precision>{{DType::kF64, false}}
                  : std::vector<Precision>{{DType::kF64, false}, {DType::kF32, false}};
  }
  return {{DType::kF32, trains}, {DType::kBF16, true}};
}

FileResult Run(const std::string& path, const Place& place) {
  const H5Reader file(path);
  const std::string format = file.TextAttribute("/", "format");
  if (file.HasAttribute("/", "distill")) {
    return {Verdict::kSkip, "self-distillation, which the model does not have yet"};
  }
  if (format != "ksa-golden-1" && format != "ksa-golden-attention-1" && format != "ksa-golden-train-1") {
    return {Verdict::kFail, fmt::format("the format is '{}', which this test does not know", format)};
  }
  FileResult result = {Verdict::kPass, ""};
  for (const Precision& precision : PrecisionsOf(format, place)) {
    GuardAllocator host;
    Report plain;
    if (precision.needs_plain) {
      RunParts(file, format, {{{}, &host}, precision.dtype}, plain);
    }
    Report report;
    RunParts(file, format, {place, precision.dtype, precision.needs_plain ? &plain : nullptr}, report);
    result.verdict = report.passed() ? result.verdict : Verdict::kFail;
    const char* line = result.text.empty() ? "" : "\n      ";
    result.text += fmt::format("{}{}: {}", line, NameOf(precision.dtype), report.Text());
  }
  return result;
}

}  // namespace

void LoadWeights(
    const H5Reader& file, const std::string& group, ParameterStore& store, const Stream& stream, Report& report) {
  const std::vector<std::string> names = file.Children(group);
  std::set<std::string> left(names.begin(), names.end());
  PoolAllocator allocator;
  for (const Parameter& parameter : store.parameters()) {
    const std::string& name = parameter.spec.name;
    if (left.erase(name) == 0) {
      report.Fail(fmt::format("{} has no {}", group, name));
      continue;
    }
    const H5Reader::Dataset dataset = file.Read(group + "/" + name);
    bool same_shape = static_cast<int>(dataset.shape.size()) == parameter.spec.shape.rank();
    for (size_t i = 0; same_shape && i < dataset.shape.size(); ++i) {
      same_shape = dataset.shape[i] == parameter.spec.shape[static_cast<int>(i)];
    }
    if (!same_shape) {
      report.Fail(fmt::format("{}/{} has another shape than {}", group, name, parameter.spec.shape.ToString()));
      continue;
    }
    const Tensor values = Tensor::Empty({parameter.spec.shape.size()}, store.state_dtype(), allocator);
    for (int64_t i = 0; i < values.size(); ++i) {
      SetElement(values, i, dataset.values[static_cast<size_t>(i)]);
    }
    store.SetWeights(parameter, values, stream);
  }
  for (const std::string& name : left) {
    report.Fail(fmt::format("the model has no parameter {}", name));
  }
}

FileResult RunGoldenFile(const std::string& path, const Place& place) {
  try {
    return Run(path, place);
  } catch (const std::exception& error) {
    return {Verdict::kFail, error.what()};
  }
}

}  // namespace ksa::testing
