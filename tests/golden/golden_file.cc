#include "tests/golden/golden_file.h"

#include <exception>
#include <set>

#include <fmt/core.h>

#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

void RunModel(const H5Reader& file, Report& f64, Report& f32) {
  for (const char* variant : {"config", "config_full_attend"}) {
    if (variant == std::string_view("config") || file.HasAttribute("/", variant)) {
      RunModelFile(file, variant, DType::kF64, f64);
      RunModelFile(file, variant, DType::kF32, f32);
    }
  }
}

FileResult Run(const std::string& path) {
  const H5Reader file(path);
  const std::string format = file.TextAttribute("/", "format");
  if (file.HasAttribute("/", "distill")) {
    return {Verdict::kSkip, "self-distillation, which the model does not have yet"};
  }
  Report f64;
  Report f32;
  if (format == "ksa-golden-1") {
    RunModel(file, f64, f32);
  } else if (format == "ksa-golden-attention-1") {
    RunAttentionFile(file, DType::kF64, f64);
    RunAttentionFile(file, DType::kF32, f32);
  } else if (format == "ksa-golden-train-1") {
    RunTrainFile(file, 1, f64);
    RunTrainFile(file, 2, f64);
    return {f64.passed() ? Verdict::kPass : Verdict::kFail, "fp64: " + f64.Text()};
  } else {
    return {Verdict::kFail, fmt::format("the format is '{}', which this test does not know", format)};
  }
  return {f64.passed() && f32.passed() ? Verdict::kPass : Verdict::kFail,
          fmt::format("fp64: {}\n      fp32: {}", f64.Text(), f32.Text())};
}

}  // namespace

void LoadWeights(const H5Reader& file, const std::string& group, ParameterStore& store, Report& report) {
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
    const Tensor values = Tensor::Empty({parameter.spec.shape.size()}, DType::kF64, allocator);
    std::copy(dataset.values.begin(), dataset.values.end(), values.As<double>());
    store.SetWeights(parameter, values, {});
  }
  for (const std::string& name : left) {
    report.Fail(fmt::format("the model has no parameter {}", name));
  }
}

FileResult RunGoldenFile(const std::string& path) {
  try {
    return Run(path);
  } catch (const std::exception& error) {
    return {Verdict::kFail, error.what()};
  }
}

}  // namespace ksa::testing
