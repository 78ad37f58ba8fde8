#include "trainer/interop/adapt.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/ranges.h>

#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"
#include "model/autograd/initial_values.h"
#include "trainer/checkpoint/tiling.h"
#include "trainer/interop/composed_source.h"

namespace ksa {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr std::string_view kSummary = "_summary";

// How a parameter comes to be.
struct Recipe {
  ParameterSpec spec;
  std::string from;           // of the base; empty: initial values
  int64_t rows_of_base = -1;  // only the first rows are the base's; -1: all are
  bool around_mean = false;   // what is not the base's: the mean row of the base's embedding is added
};

// "q_proj_summary.weight" -> "q_proj.weight"; empty for other names.
std::string WithoutSummary(const std::string& name) {
  const size_t at = name.rfind(std::string(kSummary) + ".");
  return at == std::string::npos ? std::string() : name.substr(0, at) + name.substr(at + kSummary.size());
}

bool IsSummaries(const ParameterSpec& spec) {
  return spec.kind == ParameterKind::kSummaryAttention || spec.kind == ParameterKind::kSummaryNorm ||
         spec.kind == ParameterKind::kSummaryEmbedding;
}

class AdaptedSource final : public TensorSource {
 public:
  AdaptedSource(std::shared_ptr<TensorSource> base, std::vector<Recipe> recipes, const AdaptOptions& options)
      : base_(std::move(base)), recipes_(std::move(recipes)), options_(options) {
    for (const Recipe& recipe : recipes_) {
      const TensorInfo* from = base_->Find(recipe.from.empty() ? kEmbedding : recipe.from);
      infos_.push_back({recipe.spec.name, from == nullptr ? DType::kF32 : from->dtype, DimsOf(recipe.spec.shape)});
      if (recipe.around_mean && mean_.empty()) {
        mean_ = MeanRow();
      }
    }
  }

  [[nodiscard]] const std::string& where() const override { return base_->where(); }

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return infos_; }

  void Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) override {
    const TensorInfo* own = Find(tensor.name);
    KSA_CHECK(own != nullptr, "{} is of another source", tensor.name);
    const Recipe& recipe = recipes_[static_cast<size_t>(own - infos_.data())];
    if (!recipe.from.empty() && recipe.rows_of_base < 0) {
      ReadAs(*base_, *base_->Find(recipe.from), part, out);
    } else if (recipe.from.empty()) {
      Make(recipe, *own, part, {0, part.range.size()}, out);
    } else {
      ReadRows(recipe, *own, part, out);
    }
  }

 private:
  // Initial values of the elements `range` of a part.
  void Make(const Recipe& recipe,
            const TensorInfo& info,
            const TensorPart& part,
            const FlatRange& range,
            const TensorView& out) const {
    const FlatRange inside = {part.range.begin + range.begin, part.range.begin + range.end};
    const HeldRuns held = RunsOfBox(info.shape, part.box);
    FillInitial(recipe.spec, options_.seed, held, inside, options_.threads, out);
    if (!recipe.around_mean) {
      return;
    }
    const auto columns = static_cast<int64_t>(mean_.size());
    for (int64_t i = 0; i < out.size(); ++i) {
      const double mean = mean_[static_cast<size_t>(held.InWhole(inside.begin + i) % columns)];
      if (out.dtype == DType::kF64) {
        out.As<double>()[i] += mean;
      } else {
        out.As<float>()[i] = static_cast<float>(static_cast<double>(out.As<float>()[i]) + mean);
      }
    }
  }

  // The base's rows first, then those that are made.
  void ReadRows(const Recipe& recipe, const TensorInfo& info, const TensorPart& part, const TensorView& out) {
    const FlatRange wanted = ElementsOf(info, part);
    const int64_t end = recipe.rows_of_base * (info.size() / info.shape.front());
    const FlatRange known = Intersect({0, end}, wanted);
    if (known.size() > 0) {
      const TensorInfo* from = base_->Find(recipe.from);
      ReadAs(*base_, *from, RangeOf(*from, known), out.Rows(0, known.size()));
    }
    if (known.size() < wanted.size()) {
      const FlatRange rest = {known.size(), wanted.size()};
      Make(recipe, info, part, rest, out.Rows(rest.begin, rest.size()));
    }
  }

  [[nodiscard]] std::vector<double> MeanRow() const {
    const TensorInfo* table = base_->Find(kEmbedding);
    KSA_CHECK(table != nullptr && table->shape.size() == 2, "{} was found before", kEmbedding);
    const int64_t columns = table->shape[1];
    std::vector<double> sum(static_cast<size_t>(columns), 0.0);
    ForEachBlock(*table, [&](const FlatRange& range) {
      HostAllocator memory;
      const Tensor values = Tensor::Empty({range.size()}, DType::kF64, memory);
      ReadAs(*base_, *table, RangeOf(*table, range), values);
      for (int64_t i = 0; i < range.size(); ++i) {
        sum[static_cast<size_t>((range.begin + i) % columns)] += values.As<double>()[i];
      }
    });
    for (double& value : sum) {
      value /= static_cast<double>(table->shape[0]);
    }
    return sum;
  }

  std::shared_ptr<TensorSource> base_;
  std::vector<Recipe> recipes_;
  AdaptOptions options_;
  std::vector<TensorInfo> infos_;
  std::vector<double> mean_;
};

// Decides how every parameter comes to be.
class Planner {
 public:
  Planner(const TensorSource& base, const AdaptOptions& options) : base_(base), options_(options) {}

  void Plan(const ParameterSpec& spec) {
    const std::vector<int64_t> shape = DimsOf(spec.shape);
    if (const TensorInfo* same = base_.Find(spec.name); same != nullptr) {
      used_.insert(spec.name);
      if (same->shape == shape) {
        recipes_.push_back({spec, spec.name});
      } else if (!PlanRows(spec, *same)) {
        problems_.push_back(
            fmt::format("{}: {} there, {} in the model", spec.name, DescribeShape(same->shape), DescribeShape(shape)));
      }
      return;
    }
    if (IsSummaries(spec)) {
      PlanSummary(spec);
    } else if (spec.name == kHead && IsThere(kEmbedding, spec)) {
      Take({spec, kEmbedding}, "copied from model.embed_tokens.weight, to which the source ties it");
    } else {
      problems_.push_back(fmt::format("{}: not there", spec.name));
    }
  }

  [[nodiscard]] Adapted Finish(std::shared_ptr<TensorSource> base) {
    if (!problems_.empty()) {
      Fail(ExitCode::kConfig,
           "{}: weights of another model; {} difference(s):\n  {}",
           base->where(),
           problems_.size(),
           fmt::join(problems_, "\n  "));
    }
    Adapted adapted;
    for (const TensorInfo& tensor : base->tensors()) {
      if (!used_.contains(tensor.name)) {
        adapted.unused.push_back(tensor.name);
      }
    }
    adapted.made = std::move(made_);
    adapted.source = std::make_unique<AdaptedSource>(std::move(base), std::move(recipes_), options_);
    return adapted;
  }

 private:
  [[nodiscard]] bool IsThere(const std::string& name, const ParameterSpec& spec) const {
    const TensorInfo* tensor = base_.Find(name);
    return tensor != nullptr && tensor->shape == DimsOf(spec.shape);
  }

  void Take(Recipe recipe, const std::string& how) {
    made_.push_back(recipe.spec.name + ": " + how);
    recipes_.push_back(std::move(recipe));
  }

  // A vocabulary with rows for summaries that the base has not.
  bool PlanRows(const ParameterSpec& spec, const TensorInfo& same) {
    if ((spec.name != kEmbedding && spec.name != kHead) || same.shape.size() != 2 || spec.shape.rank() != 2 ||
        same.shape[1] != spec.shape[1] || same.shape[0] >= spec.shape[0] || spec.shape[0] - same.shape[0] > 64) {
      return false;
    }
    const bool mean = spec.name == kEmbedding && options_.new_parameters == NewParameters::kCopy;
    Take({spec, spec.name, same.shape[0], mean},
         fmt::format("rows {} to {} {}",
                     same.shape[0],
                     spec.shape[0] - 1,
                     mean ? "around the mean of the others" : "with initial values"));
    return true;
  }

  void PlanSummary(const ParameterSpec& spec) {
    const std::string base = WithoutSummary(spec.name);
    if (options_.new_parameters == NewParameters::kInit) {
      Take({spec, ""}, "initial values");
    } else if (spec.kind == ParameterKind::kSummaryEmbedding && base_.Find(kEmbedding) != nullptr) {
      Take({spec, "", -1, true}, "around the mean of model.embed_tokens.weight");
    } else if (!base.empty() && IsThere(base, spec)) {
      Take({spec, base}, "copied from " + base);
    } else {
      problems_.push_back(fmt::format("{}: not there, and neither is {} to copy",
                                      spec.name,
                                      base.empty() ? std::string(kEmbedding) : base + " in that shape"));
    }
  }

  const TensorSource& base_;
  const AdaptOptions& options_;
  std::vector<Recipe> recipes_;
  std::set<std::string> used_;
  std::vector<std::string> made_;
  std::vector<std::string> problems_;
};

}  // namespace

Adapted AdaptTo(const std::vector<ParameterSpec>& specs,
                std::shared_ptr<TensorSource> base,
                const AdaptOptions& options) {
  Planner planner(*base, options);
  for (const ParameterSpec& spec : specs) {
    planner.Plan(spec);
  }
  return planner.Finish(std::move(base));
}

}  // namespace ksa
