#include "tests/golden/golden_file.h"

#include <cmath>
#include <cstdint>
#include <exception>
#include <random>
#include <set>
#include <vector>

#include <fmt/core.h>

#include "kernels/core/host_allocator.h"
#include "tests/support/kernel_test.h"
#include "trainer/config/load.h"

namespace ksa::testing {
namespace {

// Of files that name none.
constexpr const char* kMlaFormat = "latent attention";
constexpr const char* kDeltaRuleFormat = "gated delta rule";
constexpr const char* kGdnFormat = "gated delta rule layer";

// What a file says it is, or what its configuration says where it does not.
std::string FormatOf(const H5Reader& file) {
  if (file.HasAttribute("/", "format")) {
    return file.TextAttribute("/", "format");
  }
  std::string object = "/";
  if (!file.HasAttribute(object, "config")) {
    object += file.Children("/").front();
  }
  if (!file.HasAttribute(object, "config")) {
    return file.Has(object + "/dfinal_state") ? kDeltaRuleFormat : "none";
  }
  const std::string config = file.TextAttribute(object, "config");
  return config.find("kv_lora_rank") != std::string::npos             ? kMlaFormat
         : config.find("linear_num_value_heads") != std::string::npos ? kGdnFormat
                                                                      : "none";
}

// Every part of a file in one type at one place.
void RunParts(const H5Reader& file, const std::string& format, const GoldenRun& run, Report& report) {
  if (format == "ksa-golden-1" || format == "ksa-golden-2") {
    RunModelFile(file, "config", run, report);
    if (file.HasAttribute("/", "config_full_attend")) {
      RunModelFile(file, "config_full_attend", run, report);
    }
  } else if (format.starts_with("ksa-golden-attention-")) {
    RunAttentionFile(file, run, report);
  } else if (format == "ksa-golden-pool-1") {
    RunPoolFile(file, run, report);
  } else if (format == kMlaFormat) {
    RunMlaFile(file, run, report);
  } else if (format == kDeltaRuleFormat) {
    RunDeltaRuleFile(file, run, report);
  } else if (format == kGdnFormat) {
    RunGdnLayerFile(file, run, report);
  } else if (format == "ksa-golden-layer-1") {
    RunLayerFile(file, run, report);
  } else {
    RunTrainFile(file, 1, run, report);
    RunTrainFile(file, 2, run, report);
  }
}

// Weights that are off by next to nothing, so that all that follows is rounded otherwise: by up to a quarter of a
// rounding to the run's type where weights are kept in a finer one; else, every other one, by a unit in the last place,
// the least there is.
class OtherRoundings {
 public:
  OtherRoundings(const GoldenRun& run, DType kept) : run_(run), kept_(kept), random_(static_cast<uint64_t>(run.draw)) {}

  [[nodiscard]] double operator()(double weight) {
    if (run_.draw == 0) {
      return weight;
    }
    if (UnitRoundoff(kept_) < UnitRoundoff(run_.dtype)) {
      return weight * (1.0 + std::uniform_real_distribution<double>(-0.25, 0.25)(random_) * UnitRoundoff(run_.dtype));
    }
    KSA_CHECK(kept_ == DType::kF32, "weights in {} are not run in {}", NameOf(kept_), NameOf(run_.dtype));
    const uint64_t bits = random_();
    const auto kept = static_cast<float>(weight);
    return bits % 2 == 0 ? weight : std::nextafter(kept, bits % 4 == 1 ? HUGE_VALF : -HUGE_VALF);
  }

 private:
  const GoldenRun& run_;
  DType kept_;
  std::mt19937_64 random_;
};

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

// What of a file there are no kernels for on a GPU yet; empty: nothing.
std::string GpuProblemOf(const H5Reader& file, const std::string& format) {
  if (format != "ksa-golden-2") {
    return {};
  }
  const std::string config = file.TextAttribute("/", "config");
  return ParseModelConfig("{\"model\": " + config + "}", "attribute config", 1).GpuProblem();
}

FileResult Run(const std::string& path, const Place& place) {
  const H5Reader file(path);
  const std::string format = FormatOf(file);
  static const std::set<std::string> kFormats = {kMlaFormat,
                                                 kDeltaRuleFormat,
                                                 kGdnFormat,
                                                 "ksa-golden-1",
                                                 "ksa-golden-2",
                                                 "ksa-golden-attention-1",
                                                 "ksa-golden-attention-2",
                                                 "ksa-golden-layer-1",
                                                 "ksa-golden-pool-1",
                                                 "ksa-golden-train-1"};
  if (kFormats.count(format) == 0) {
    return {Verdict::kFail, fmt::format("the format is '{}', which this test does not know", format)};
  }
  if (!place.stream.device.IsCpu()) {
    if (const std::string problem = GpuProblemOf(file, format); !problem.empty()) {
      return {Verdict::kSkip, problem};
    }
  }
  FileResult result = {Verdict::kPass, ""};
  for (const Precision& precision : PrecisionsOf(format, place)) {
    GuardAllocator host;
    Report plain;
    for (int draw = 0; precision.needs_plain && draw < kDraws; ++draw) {
      RunParts(file, format, {.place = {{}, &host}, .dtype = precision.dtype, .draw = draw}, plain);
    }
    Report report;
    RunParts(file,
             format,
             {.place = place, .dtype = precision.dtype, .plain = precision.needs_plain ? &plain : nullptr},
             report);
    result.verdict = report.passed() ? result.verdict : Verdict::kFail;
    const char* line = result.text.empty() ? "" : "\n      ";
    result.text += fmt::format("{}{}: {}", line, NameOf(precision.dtype), report.Text());
  }
  return result;
}

}  // namespace

GoldenBounds BoundsOf(DType dtype) {
  return dtype == DType::kF64 ? GoldenBounds{1e-11, 1e-11} : GoldenBounds{2e-5, 1e-4};
}

void CompareDataset(const H5Reader& file,
                    const std::string& group,
                    const std::string& name,
                    const Tensor& actual,
                    double bound,
                    const GoldenRun& run,
                    Report& report) {
  report.Compare(name,
                 "of " + group,
                 ValuesOf(actual, run.place.stream),
                 file.Values(group + name),
                 run.Bound(name, "of " + group, bound));
}

Tensor LoadDataset(const H5Reader& file, const std::string& path, const GoldenRun& run) {
  const H5Reader::Dataset dataset = file.Read(path);
  KSA_CHECK(dataset.shape.size() == 2, "{} has {} dimensions, expected 2", path, dataset.shape.size());
  HostAllocator host;
  const Tensor x = Tensor::Empty({dataset.shape[0], dataset.shape[1]}, run.dtype, host);
  for (int64_t i = 0; i < x.size(); ++i) {
    SetElement(x, i, dataset.values[static_cast<size_t>(i)]);
  }
  return ToPlace(x, run.place);
}

void SetWeights(ParameterStore& store,
                const GoldenRun& run,
                const std::function<std::vector<double>(const ParameterSpec&)>& values_of) {
  OtherRoundings drawn(run, store.state_dtype());
  HostAllocator allocator;
  for (const Parameter& parameter : store.parameters()) {
    const std::vector<double> weights = values_of(parameter.spec);
    const Tensor values = Tensor::Empty({parameter.spec.shape.size()}, store.state_dtype(), allocator);
    for (int64_t i = 0; i < values.size(); ++i) {
      SetElement(values, i, drawn(weights.at(static_cast<size_t>(i))));
    }
    store.SetWeights(parameter, values, run.place.stream);
  }
}

bool LoadWeights(
    const H5Reader& file, const std::string& group, ParameterStore& store, const GoldenRun& run, Report& report) {
  bool matches = true;
  const auto fail = [&](const std::string& reason) {
    report.Fail(reason);
    matches = false;
  };
  const std::vector<std::string> names = file.Children(group);
  std::set<std::string> left(names.begin(), names.end());
  for (const Parameter& parameter : store.parameters()) {
    const std::string& name = parameter.spec.name;
    if (left.erase(name) == 0) {
      fail(fmt::format("{} has no {}", group, name));
      continue;
    }
    const H5Reader::Dataset dataset = file.Read(group + "/" + name);
    bool same_shape = static_cast<int>(dataset.shape.size()) == parameter.spec.shape.rank();
    for (size_t i = 0; same_shape && i < dataset.shape.size(); ++i) {
      same_shape = dataset.shape[i] == parameter.spec.shape[static_cast<int>(i)];
    }
    if (!same_shape) {
      fail(fmt::format("{}/{} has another shape than {}", group, name, parameter.spec.shape.ToString()));
    }
  }
  for (const std::string& name : left) {
    fail(fmt::format("the model has no parameter {}", name));
  }
  if (matches) {
    SetWeights(store, run, [&](const ParameterSpec& spec) { return file.Values(group + "/" + spec.name); });
  }
  return matches;
}

FileResult RunGoldenFile(const std::string& path, const Place& place) {
  try {
    return Run(path, place);
  } catch (const std::exception& error) {
    return {Verdict::kFail, error.what()};
  }
}

}  // namespace ksa::testing
