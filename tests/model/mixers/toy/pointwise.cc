#include "tests/model/mixers/toy/pointwise.h"

#include <utility>

#include <fmt/core.h>

#include "model/ops/parallel_linear.h"
#include "model/ops/rows.h"

namespace ksa::testing {
namespace {

constexpr const char* kColumns = "columns";
constexpr const char* kIn = "pointwise.in_proj.weight";    // [columns, d]
constexpr const char* kOut = "pointwise.out_proj.weight";  // [d, columns]

class BoundPointwise final : public BoundMixer {
 public:
  BoundPointwise(Parameter* in, Parameter* out) : in_(in), out_(out) {}

  [[nodiscard]] Var Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const override {
    const ProductSpec products[] = {{in_, nullptr, call.RowsIn().total()}};
    const EnteredProducts in = EnterLinear(cx, normed, call.RowsIn(), products);
    const Var mixed = Rows(cx, in.products[0], 0, call.RowsOut().total());
    return LinearReduce(cx, mixed, call.RowsOut(), *out_, call.unread);
  }

 private:
  Parameter* in_;
  Parameter* out_;
};

class Pointwise final : public Mixer {
 public:
  explicit Pointwise(int32_t columns) : columns_(columns) {}

  [[nodiscard]] int32_t columns() const { return columns_; }

  [[nodiscard]] const MixerKind& kind() const override { return PointwiseKind(); }

  [[nodiscard]] bool Equals(const Mixer& other) const override {
    return columns_ == dynamic_cast<const Pointwise&>(other).columns_;
  }

  [[nodiscard]] bool SummariesAttend(const ModelConfig& config) const override {
    return config.ksa.full_layers == FullLayers::kAttend;
  }

  void AddParameters(const ModelConfig& config, bool /*own*/, ParameterList& list) const override {
    list.Matrix(kIn, columns_, config.hidden_size, ParameterKind::kAttention, Placement::Sharded(0));
    list.Matrix(kOut, config.hidden_size, columns_, ParameterKind::kAttention, Placement::Sharded(1));
  }

  [[nodiscard]] std::unique_ptr<BoundMixer> Bind(const ModelConfig& /*config*/,
                                                 const LayerParameters& parameters,
                                                 RopeTables& /*ropes*/) const override {
    return std::make_unique<BoundPointwise>(parameters.Get(kIn), parameters.Get(kOut));
  }

  [[nodiscard]] std::string TensorProblem(const ModelConfig& /*config*/, int32_t ranks) const override {
    return ranks > columns_ ? fmt::format("{} ranks cannot share {} columns of pointwise", ranks, columns_)
                            : std::string();
  }

  [[nodiscard]] CacheSize CacheAt(const ModelConfig& /*config*/, int64_t /*tokens*/, DType /*dtype*/) const override {
    return {};
  }

 private:
  int32_t columns_;
};

class Kind final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "pointwise"; }

  [[nodiscard]] std::string_view doc() const override { return "itself"; }

  [[nodiscard]] std::optional<AnyValue> DefaultSettings() const override { return AnyValue(PointwiseConfig()); }

  [[nodiscard]] std::vector<MixerKey> Keys() const override {
    return {KeyAt(
        "pointwise.columns", KeyType::Integer(1), "8", "columns between the two products", [](auto& config) -> auto& {
          return config.mixers.template Of<PointwiseConfig>().columns;
        })};
  }

  [[nodiscard]] std::vector<EntryField> EntryFields() const override { return {{kColumns, KeyType::Integer(1)}}; }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& config, const EntryValues& entry) const override {
    return PointwiseLayer(NumberOf(entry, kColumns).value_or(config.mixers.Of<PointwiseConfig>().columns));
  }

  [[nodiscard]] EntryValues EntryOf(const ModelConfig& config, const Mixer& mixer) const override {
    const int32_t columns = dynamic_cast<const Pointwise&>(mixer).columns();
    return config.mixers.Of<PointwiseConfig>().columns == columns ? EntryValues()
                                                                  : EntryValues{{kColumns, int64_t{columns}}};
  }

  [[nodiscard]] std::vector<MixerProblem> Problems(const MixerDraft& draft) const override {
    const int32_t columns = draft.model.mixers.Of<PointwiseConfig>().columns;
    if (columns % 2 == 0) {
      return {};
    }
    const std::string key = FullPath("pointwise.columns");
    return {{{key}, {key}, fmt::format("must be even, got {}; this is an example of a rule", columns)}};
  }
};

}  // namespace

const MixerKind& PointwiseKind() {
  static const Kind kKind;
  return kKind;
}

LayerSpec PointwiseLayer(int32_t columns) {
  return LayerSpec(std::make_shared<Pointwise>(columns));
}

}  // namespace ksa::testing
