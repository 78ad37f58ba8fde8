#include "trainer/evaluate/compare.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <set>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/checkpoint_source.h"

namespace ksa {
namespace {

double Relative(double a, double b) {
  if (SameBits(a, b) || a == b) {
    return 0;
  }
  const double relative = std::abs(a - b) / std::max(std::abs(a), std::abs(b));
  return std::isfinite(relative) ? relative : std::numeric_limits<double>::infinity();
}

bool Equal(double a, double b, double rtol) {
  return rtol > 0 ? Relative(a, b) <= rtol : SameBits(a, b);
}

using Pick = std::function<std::optional<double>(const StepReport&)>;
using Pairs = std::vector<std::pair<const StepReport*, const StepReport*>>;

QuantityDifference CompareQuantity(const std::string& name, const Pairs& pairs, const Pick& pick, double rtol) {
  QuantityDifference result;
  result.quantity = name;
  for (const auto& [left, right] : pairs) {
    const std::optional<double> a = pick(*left);
    const std::optional<double> b = pick(*right);
    const bool both = a && b;
    result.only_in_a += a && !b ? 1 : 0;
    result.only_in_b += b && !a ? 1 : 0;
    if ((!a && !b) || (!both && rtol > 0)) {
      continue;
    }
    result.largest_relative =
        std::max(result.largest_relative, both ? Relative(*a, *b) : std::numeric_limits<double>::infinity());
    if (!result.first_different && !(both && Equal(*a, *b, rtol))) {
      result.first_different = left->step;
      result.a = a;
      result.b = b;
    }
  }
  return result;
}

void CompareMetrics(const ComparedRun& a, const ComparedRun& b, const CompareRule& rule, RunDifference& result) {
  std::map<int64_t, const StepReport*> by_step;
  for (const MetricsLine& line : b.metrics) {
    by_step[line.report.step] = &line.report;
  }
  Pairs pairs;
  std::set<std::string> sources;
  for (const MetricsLine& line : a.metrics) {
    const auto found = by_step.find(line.report.step);
    if (found == by_step.end()) {
      continue;
    }
    pairs.emplace_back(&line.report, found->second);
    for (const StepReport* report : {&line.report, found->second}) {
      for (const auto& [name, loss] : report->validation_loss) {
        sources.insert(name);
      }
    }
  }
  result.common_updates = static_cast<int64_t>(pairs.size());
  result.only_in_a = static_cast<int64_t>(a.metrics.size()) - result.common_updates;
  result.only_in_b = static_cast<int64_t>(b.metrics.size()) - result.common_updates;
  const auto compare = [&](const std::string& name, const Pick& pick) {
    result.quantities.push_back(CompareQuantity(name, pairs, pick, rule.rtol));
  };
  const Pick tokens = [](const StepReport& report) { return static_cast<double>(report.tokens); };
  result.quantities.push_back(CompareQuantity("tokens", pairs, tokens, 0));  // a count: no tolerance
  compare("loss", [](const StepReport& report) { return report.loss; });
  compare("grad_norm", [](const StepReport& report) { return report.grad_norm; });
  compare("lr", [](const StepReport& report) { return report.lr; });
  for (const std::string& source : sources) {
    compare("validation_loss/" + source, [&](const StepReport& report) -> std::optional<double> {
      const auto found = report.validation_loss.find(source);
      return found == report.validation_loss.end() ? std::nullopt : std::optional(found->second);
    });
  }
}

std::set<std::string> CheckpointNames(const std::string& run) {
  std::set<std::string> names;
  for (const std::string& path : ListCheckpoints(run)) {
    names.insert(path.substr(path.rfind('/') + 1));
  }
  return names;
}

void CompareCheckpoints(const ComparedRun& a, const ComparedRun& b, const CompareRule& rule, RunDifference& result) {
  const std::set<std::string> left = CheckpointNames(a.path);
  const std::set<std::string> right = CheckpointNames(b.path);
  std::vector<std::string> common;
  std::set_intersection(left.begin(), left.end(), right.begin(), right.end(), std::back_inserter(common));
  if (common.empty()) {
    return;
  }
  const Checkpoint x = OpenCheckpoint(a.path + "/checkpoints/" + common.back());
  const Checkpoint y = OpenCheckpoint(b.path + "/checkpoints/" + common.back());
  result.checkpoint_step = x.manifest.meta.step;
  CheckpointSource left_source(x);
  CheckpointSource right_source(y);
  left_source.RefuseShortFiles();
  right_source.RefuseShortFiles();
  const auto counts = [&](const TensorInfo& tensor) { return rule.strict || tensor.name.starts_with("weights/"); };
  for (const TensorInfo& tensor : left_source.tensors()) {
    if (!counts(tensor)) {
      continue;
    }
    ++result.compared_tensors;
    const TensorDifference difference = CompareTensor(left_source, tensor, right_source);
    const bool equal = rule.rtol > 0 ? difference.relative_l2 <= rule.rtol : difference.different_elements == 0;
    if (!equal) {
      result.tensors.push_back(difference);
    }
  }
  for (const TensorInfo& tensor : right_source.tensors()) {
    if (counts(tensor) && left_source.Find(tensor.name) == nullptr) {
      result.tensors.push_back({tensor.name, tensor.size(), std::numeric_limits<double>::infinity()});
    }
  }
}

}  // namespace

ComparedRun OpenComparedRun(const std::string& path) {
  if (!IsFolder(path)) {
    Fail(ExitCode::kMissingInput, "{}: there is no such run folder", path);
  }
  ComparedRun run{path, ReadMetrics(path + "/metrics.jsonl")};
  if (run.metrics.empty()) {
    Fail(ExitCode::kMissingInput, "{}/metrics.jsonl: no update was logged", path);
  }
  return run;
}

RunDifference CompareRuns(const ComparedRun& a, const ComparedRun& b, const CompareRule& rule) {
  RunDifference result;
  CompareMetrics(a, b, rule, result);
  CompareCheckpoints(a, b, rule, result);
  result.differs = result.common_updates == 0 || !result.tensors.empty() ||
                   (rule.strict && (result.only_in_a > 0 || result.only_in_b > 0)) ||
                   std::any_of(result.quantities.begin(), result.quantities.end(), [](const QuantityDifference& q) {
                     return q.first_different.has_value();
                   });
  return result;
}

}  // namespace ksa
