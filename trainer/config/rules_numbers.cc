// Numbers in the type that computes with them: a value that a double holds may be 0 or infinite in fp32.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "trainer/config/rules.h"

namespace ksa {
namespace {

using NamedNumbers = std::vector<std::pair<const char*, double>>;

// What kernels of fp32 and bf16 runs hold as a float.
NamedNumbers FloatsOf(const Draft& draft) {
  const Config& config = draft.config;
  NamedNumbers numbers = {{"model.rms_norm_eps", config.model.rms_norm_eps},
                          {"optimizer.lr", config.optimizer.lr},
                          {"optimizer.eps", config.optimizer.eps},
                          {"optimizer.weight_decay", config.optimizer.weight_decay}};
  if (!config.model.initializer_range.fan_in) {
    numbers.emplace_back("model.initializer_range", config.model.initializer_range.std);
  }
  if (draft.min_lr) {
    numbers.emplace_back("optimizer.min_lr", *draft.min_lr);
  }
  return numbers;
}

// Subnormal floats count as 0: what is added to them is not, and a GPU may flush them.
std::string InFloat(double value) {
  const auto rounded = static_cast<float>(value);
  if (!std::isfinite(rounded)) {
    return "infinite";
  }
  return value != 0.0 && std::fpclassify(rounded) != FP_NORMAL ? "0" : "";
}

}  // namespace

void CheckNumbers(const RuleCheck& check) {
  if (!check.given.Usable({"training.precision"}) || check.draft.config.training.precision == DType::kF64) {
    return;
  }
  for (const auto& [key, value] : FloatsOf(check.draft)) {
    if (const std::string rounded = check.given.Usable({key}) ? InFloat(value) : ""; !rounded.empty()) {
      check.Fail(
          {key},
          fmt::format("{} is {} in fp32, in which it is used; take a number from 1e-37 to 1e38", value, rounded));
    }
  }
  if (!check.given.Usable({"optimizer.betas"})) {
    return;
  }
  for (const double beta : check.draft.betas) {
    if (static_cast<float>(beta) >= 1.0F) {
      check.Fail({"optimizer.betas"}, fmt::format("{} is 1 in fp32, in which it is used; take a smaller one", beta));
    }
  }
}

}  // namespace ksa
