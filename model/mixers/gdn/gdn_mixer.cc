#include "model/mixers/gdn/gdn_mixer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <fmt/core.h>

#include "kernels/cache/move_rows.h"
#include "kernels/core/error.h"
#include "kernels/core/philox.h"
#include "kernels/delta_rule/rule_scratch.h"
#include "model/mixers/decode_call.h"
#include "model/mixers/kept_taps.h"
#include "model/ops/delta_rule.h"
#include "model/ops/parallel_linear.h"
#include "model/ops/short_conv.h"

namespace ksa {
namespace {

// What a layer keeps: a state a slot, and the rows that the next token's convolutions read.
class GdnCache final : public LayerCache {
 public:
  [[nodiscard]] int64_t bytes() const override {
    return states.view().bytes() + taps[0].bytes() + taps[1].bytes() + taps[2].bytes();
  }

  std::array<KeptTaps, 3> taps;  // of q, k and v
  Tensor states;                 // [slots, hv, dk, dv] in the accumulation type
};

constexpr const char* kPrefix = "linear_attn.";

const GdnConfig& SettingsOf(const ModelConfig& config) {
  return config.mixers.Of<GdnConfig>();
}

int64_t KeyColumns(const GdnConfig& gdn) {
  return int64_t{1} * gdn.key_heads * gdn.key_head_dim;
}

int64_t ValueColumns(const GdnConfig& gdn) {
  return int64_t{1} * gdn.value_heads * gdn.value_head_dim;
}

// Uniform in (0, 1].
double UniformAt(uint64_t key, uint64_t element) {
  return (static_cast<double>(Philox4x32(key, element)[0]) + 1.0) * 0x1p-32;
}

// log(A), A uniform in (0, 16], as Hugging Face and flash-linear-attention draw it.
double InitialALog(uint64_t key, uint64_t element) {
  return std::log(16.0 * UniformAt(key, element));
}

// The inverse of softplus at dt, whose logarithm is uniform in that of [0.001, 0.1], as flash-linear-attention draws
// it: heads begin with memories of many lengths. (Hugging Face's 1 makes nearly all of them forget at once.)
double InitialDtBias(uint64_t key, uint64_t element) {
  const double low = std::log(1e-3);
  const double dt = std::exp(low + UniformAt(key, element) * (std::log(0.1) - low));
  return dt + std::log(-std::expm1(-dt));
}

}  // namespace

BoundGdn::Rows BoundGdn::MakeRows(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const RowCounts rows = call.RowsIn();
  KSA_CHECK(rows.summaries == 0, "{} summary rows run through a gdn layer", rows.summaries);
  std::vector<ProductSpec> products;
  for (Parameter* weight : {weights_.q, weights_.k, weights_.v, weights_.gate, weights_.a, weights_.b}) {
    products.push_back({weight, nullptr, rows.total()});
  }
  const std::vector<Var> x = EnterLinear(cx, normed, rows, products).products;
  const auto convolved = [&](size_t i, Parameter* taps) {
    const ShortConvSpec spec = {.layout = call.layout, .whole = call.whole, .weight = taps, .form = ConvForm::kSilu};
    return call.cache == nullptr ? ShortConv(cx, x[i], spec)
                                 : CacheOf<GdnCache>(call).taps.at(i).Convolve(cx, x[i], spec, call);
  };
  return {.q = convolved(0, weights_.q_conv),
          .k = convolved(1, weights_.k_conv),
          .v = convolved(2, weights_.v_conv),
          .a = x[4],
          .b = x[5],
          .gate = x[3]};
}

// A step goes on from the states of its sequences and leaves the next ones.
Var BoundGdn::Mix(const ExecContext& cx, const Rows& rows, const MixerCall& call) const {
  GatedDeltaSpec spec = {.layout = call.layout,
                         .whole = call.whole,
                         .a_log = weights_.a_log,
                         .dt_bias = weights_.dt_bias,
                         .key_dim = config_.key_head_dim,
                         .value_dim = config_.value_head_dim,
                         .most_write = config_.allow_neg_eigval ? 2.0 : 1.0};
  const auto run = [&] { return GatedDelta(cx, rows.q, rows.k, rows.v, rows.a, rows.b, spec); };
  if (call.cache == nullptr) {
    return run();
  }
  const Tensor& states = CacheOf<GdnCache>(call).states;
  if (call.step == nullptr) {
    spec.final_state = states.Rows(call.slot, 1);
    return run();
  }
  const Shape shape = states.shape().WithRows(call.step->text_rows());
  const Tensor before = cx.Empty(shape, states.dtype());
  const Tensor behind = cx.Empty(shape, states.dtype());
  MoveRows({.from = states, .from_rows = call.step->Slots(), .to = before}, cx.stream);
  spec.layout = call.step->OneTokenEach();
  spec.initial_state = before;
  spec.final_state = behind;
  Var mixed = run();
  MoveRows({.from = behind, .to = states, .to_rows = call.step->Slots()}, cx.stream);
  return mixed;
}

Var BoundGdn::Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Rows rows = MakeRows(cx, normed, call);
  const Var mixed = Mix(cx, rows, call);
  return LinearReduce(
      cx, GatedNorm(cx, mixed, rows.gate, *weights_.norm, eps_), call.RowsOut(), *weights_.out, call.unread);
}

std::unique_ptr<LayerCache> BoundGdn::MakeCache(const ExecContext& cx, const CacheSpec& spec) const {
  auto cache = std::make_unique<GdnCache>();
  cache->taps = {
      KeptTaps(cx, spec, weights_.q_conv), KeptTaps(cx, spec, weights_.k_conv), KeptTaps(cx, spec, weights_.v_conv)};
  cache->states = cx.Empty({spec.slots, weights_.a->value.rows(), config_.key_head_dim, config_.value_head_dim},
                           AccumulationType(spec.dtype));
  return cache;
}

void GdnMixer::AddParameters(const ModelConfig& config, bool /*own*/, ParameterList& list) const {
  const std::string problem = TensorProblem(config, list.tensor_ranks());
  KSA_CHECK(problem.empty(), "tensor ranks: {}", problem);
  const GdnConfig& gdn = SettingsOf(config);
  const int64_t d = config.hidden_size;
  const Placement heads = Placement::Sharded(0);
  const auto matrix = [&](const char* part, int64_t out) {
    list.Matrix(std::string(kPrefix) + part + "_proj.weight", out, d, ParameterKind::kAttention, heads);
  };
  // As torch draws a convolution; at initializer_range, queries and keys would be as short as the small number beside
  // their length.
  const auto taps = [&](const char* part, int64_t channels) {
    list.Add({.name = std::string(kPrefix) + part + "_conv1d.weight",
              .shape = {channels, 1, gdn.conv_taps},
              .kind = ParameterKind::kAttention,
              .decays = true,
              .tensor = heads,
              .init_std = 1.0 / std::sqrt(static_cast<double>(gdn.conv_taps))});
  };
  const auto gate = [&](const char* part, double (*initial)(uint64_t, uint64_t)) {
    list.Add({.name = std::string(kPrefix) + part,
              .shape = {gdn.value_heads},
              .kind = ParameterKind::kAttention,
              .tensor = heads,
              .initial = initial});
  };
  matrix("q", KeyColumns(gdn));
  matrix("k", KeyColumns(gdn));
  matrix("v", ValueColumns(gdn));
  matrix("g", ValueColumns(gdn));
  matrix("a", gdn.value_heads);
  matrix("b", gdn.value_heads);
  taps("q", KeyColumns(gdn));
  taps("k", KeyColumns(gdn));
  taps("v", ValueColumns(gdn));
  gate("A_log", InitialALog);
  gate("dt_bias", InitialDtBias);
  list.HeadNorm(std::string(kPrefix) + "o_norm.weight", gdn.value_head_dim, ParameterKind::kNorm);
  list.Matrix(
      std::string(kPrefix) + "o_proj.weight", d, ValueColumns(gdn), ParameterKind::kAttention, Placement::Sharded(1));
}

std::unique_ptr<BoundMixer> GdnMixer::Bind(const ModelConfig& config,
                                           const LayerParameters& parameters,
                                           RopeTables& /*ropes*/) const {
  const auto get = [&](const char* part) { return parameters.Get(std::string(kPrefix) + part); };
  const GdnWeights weights = {.q = get("q_proj.weight"),
                              .k = get("k_proj.weight"),
                              .v = get("v_proj.weight"),
                              .gate = get("g_proj.weight"),
                              .a = get("a_proj.weight"),
                              .b = get("b_proj.weight"),
                              .q_conv = get("q_conv1d.weight"),
                              .k_conv = get("k_conv1d.weight"),
                              .v_conv = get("v_conv1d.weight"),
                              .a_log = get("A_log"),
                              .dt_bias = get("dt_bias"),
                              .norm = get("o_norm.weight"),
                              .out = get("o_proj.weight")};
  return std::make_unique<BoundGdn>(weights, SettingsOf(config), config.rms_norm_eps);
}

std::string GdnMixer::TensorProblem(const ModelConfig& config, int32_t ranks) const {
  const GdnConfig& gdn = SettingsOf(config);
  return gdn.key_heads % ranks == 0
             ? std::string()
             : fmt::format("{} does not divide model.attention.gdn.linear_num_key_heads {}", ranks, gdn.key_heads);
}

std::string GdnMixer::GpuProblem(const ModelConfig& config) const {
  const int32_t dim = SettingsOf(config).key_head_dim;
  return dim <= delta_rule::kMostKeyColumns
             ? std::string()
             : fmt::format("model.attention.gdn.linear_key_head_dim {} ({} at most)", dim, delta_rule::kMostKeyColumns);
}

// A state in fp32 (fp64 in fp64), and the rows that the next one's convolutions read. A state's rows count as entries:
// it holds as many keys that don't disturb each other.
CacheSize GdnMixer::CacheAt(const ModelConfig& config, int64_t tokens, DType dtype) const {
  const GdnConfig& gdn = SettingsOf(config);
  if (tokens == 0) {
    return {};
  }
  const int64_t state = ValueColumns(gdn) * gdn.key_head_dim * SizeOf(AccumulationType(dtype));
  const int64_t rows = std::min<int64_t>(tokens, gdn.conv_taps - 1);
  return {gdn.key_head_dim, state + rows * (2 * KeyColumns(gdn) + ValueColumns(gdn)) * SizeOf(dtype)};
}

}  // namespace ksa
