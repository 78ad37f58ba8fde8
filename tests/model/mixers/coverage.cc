#include "tests/model/mixers/coverage.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include <fmt/core.h>

#include "model/ksa/cost.h"
#include "model/ksa/parameters.h"
#include "tests/model/ksa/model_cases.h"
#include "tests/parallel/equality/problem.h"
#include "tests/support/naive_mixer.h"
#include "trainer/config/load.h"
#include "trainer/config/schema.h"

namespace ksa::testing {
namespace {

std::string Text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The first layer of this kind, if there is one.
const LayerSpec* LayerOf(const ModelConfig& model, const MixerKind& kind) {
  const auto found = std::find_if(
      model.layers.begin(), model.layers.end(), [&](const LayerSpec& layer) { return &layer->kind() == &kind; });
  return found == model.layers.end() ? nullptr : &*found;
}

std::optional<ModelConfig> ShippedModelWith(const MixerKind& kind) {
  for (const auto& entry : std::filesystem::directory_iterator("configs/test")) {
    const ModelConfig model = LoadConfig(entry.path().string()).config.model;
    if (LayerOf(model, kind) != nullptr) {
      return model;
    }
  }
  return std::nullopt;
}

bool IsInModelCases(const MixerKind& kind) {
  const std::vector<ModelCase> cases = ModelCases();
  return std::any_of(
      cases.begin(), cases.end(), [&](const ModelCase& c) { return LayerOf(c.config, kind) != nullptr; });
}

bool IsInEqualityMatrix(const MixerKind& kind) {
  return std::any_of(kModelKinds.begin(), kModelKinds.end(), [&](ModelKind model) {
    return LayerOf(MakeProblem(model, 0, 1).model, kind) != nullptr;
  });
}

void CheckKeys(const MixerKind& kind, std::vector<std::string>& missing) {
  for (const MixerKey& key : kind.Keys()) {
    if (!key.path.starts_with(std::string(kind.name()) + ".")) {
      missing.push_back(fmt::format("its key {} stands under another name", key.path));
    }
    if (FindKey(FullPath(key.path)) == nullptr) {
      missing.push_back(fmt::format("the schema lacks its key {}", key.path));
    }
  }
}

// One layer of it alone: parameters that its cost knows, a cache that does not shrink, an entry that gives it again.
void CheckLayer(const MixerKind& kind, ModelConfig model, std::vector<std::string>& missing) {
  const LayerSpec* found = LayerOf(model, kind);
  const LayerSpec layer = found == nullptr ? kind.MakeLayer(model, {}) : *found;
  model.layers = {layer};
  model.num_hidden_layers = 1;
  int64_t products = 0;  // multiply-adds of a text row, with all that decays: matrices and taps
  for (const ParameterSpec& spec : ParameterSpecs(model)) {
    const bool of_mixer = spec.first_layer == 0 && spec.kind == ParameterKind::kAttention;
    products += of_mixer && spec.decays ? spec.shape.size() : 0;
  }
  if (products == 0) {
    missing.push_back("it declares no matrix of kind kAttention");
  }
  model.intermediate_size = 0;
  // All rows but those of the last chunks, which nothing may stand for.
  constexpr int32_t kTokens = 400;
  const double counted = CountForwardFlops(model, MakeLayout(model, 1, kTokens)).linear / kTokens;
  if (counted < 0.9 * 2.0 * static_cast<double>(products)) {
    missing.push_back(
        fmt::format("its cost: a row takes {} operations in products with its matrices, its operations say {}",
                    2 * products,
                    counted));
  }
  if (layer->CacheAt(model, 200, DType::kBF16).bytes < layer->CacheAt(model, 100, DType::kBF16).bytes) {
    missing.push_back("its cache shrinks");
  }
  if (kind.MakeLayer(model, kind.EntryOf(model, *layer)) != layer) {
    missing.push_back("EntryOf and MakeLayer disagree");
  }
  if (!layer->TensorProblem(model, 1).empty()) {
    missing.push_back("one tensor rank is refused");
  }
}

}  // namespace

std::vector<std::string> MissingOf(const MixerKind& kind) {
  std::vector<std::string> missing;
  const std::string row = fmt::format("| `{}` | {} |", kind.name(), kind.doc());
  if (Text("docs/configuration.md").find(row) == std::string::npos) {
    missing.push_back("docs/configuration.md lacks the row " + row);
  }
  CheckKeys(kind, missing);
  const std::optional<ModelConfig> shipped = ShippedModelWith(kind);
  if (!shipped) {
    missing.emplace_back("no configuration of configs/test has a layer of it");
  }
  if (!FindNaiveMixer(kind.name())) {
    missing.emplace_back("the naive model (tests/support/naive_mixers.cc) lacks it");
  }
  if (!IsInModelCases(kind)) {
    missing.emplace_back("no model case (tests/model/ksa/model_cases.cc) has a layer of it");
  }
  if (!IsInEqualityMatrix(kind)) {
    missing.emplace_back("the equality matrix (tests/parallel/equality/problem.cc) has no layer of it");
  }
  CheckLayer(kind, shipped.value_or(FindCase("full").config), missing);
  return missing;
}

}  // namespace ksa::testing
