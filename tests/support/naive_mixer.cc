#include "tests/support/naive_mixer.h"

#include <cmath>

#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/mla/mla.h"

namespace ksa::testing {
namespace {

// Whether a row sees another one.
using Sees = bool (*)(const Mixer& spec, const NaiveRow& query, const NaiveRow& key);

void Rotate(const ModelConfig& config, NaiveVector& x, size_t begin, int32_t position) {
  const size_t half = static_cast<size_t>(config.head_dim / 2);
  for (size_t i = 0; i < half; ++i) {
    const double power = -2.0 * static_cast<double>(i) / config.head_dim;
    const double angle = position * std::pow(config.rope_theta, power);
    const double first = x[begin + i];
    const double second = x[begin + i + half];
    x[begin + i] = first * std::cos(angle) - second * std::sin(angle);
    x[begin + i + half] = second * std::cos(angle) + first * std::sin(angle);
  }
}

// `part` is q, k or v; own: with the summaries' own projection.
NaiveVector Product(const NaiveLayer& layer, const std::string& part, const NaiveVector& normed, bool own) {
  return NaiveMultiply(layer.get("self_attn." + part + (own ? "_proj_summary.weight" : "_proj.weight")), normed);
}

// y, a product of the text row, and the taps of this row and of those before it in the text.
void Convolve(const NaiveLayer& layer, const std::string& part, const NaiveRow& row, NaiveVector& y) {
  const int32_t taps = OptionsOf(layer.spec).short_conv;
  if (taps == 0 || row.is_summary) {
    return;
  }
  const Parameter& weight = layer.get("self_attn." + part + "_conv1d.weight");
  for (int32_t j = 0; j < taps && j <= row.index; ++j) {
    const NaiveRow& earlier = *layer.rows[static_cast<size_t>(row.index - j)];  // text comes first, in order
    const NaiveVector x = Product(layer, part, earlier.normed, false);
    for (size_t c = 0; c < y.size(); ++c) {
      y[c] += weight.value.As<double>()[c * static_cast<size_t>(taps) + static_cast<size_t>(taps - 1 - j)] * x[c];
    }
  }
}

// With q/k norms; own: the summaries' own, if there are any.
void NormHeads(const NaiveLayer& layer, const std::string& part, bool own, NaiveVector& y) {
  const ModelConfig& config = layer.config;
  if (config.qk_norm && part != "v") {
    const bool own_norm = own && config.ksa.independent.qk_norm;
    const Parameter& weight = layer.get("self_attn." + part + (own_norm ? "_norm_summary.weight" : "_norm.weight"));
    for (size_t head = 0; head < y.size(); head += static_cast<size_t>(config.head_dim)) {
      NaiveNormalize(y, head, weight, config.rms_norm_eps);
    }
  }
}

NaiveVector Project(const NaiveLayer& layer, const std::string& part, const NaiveRow& row) {
  NaiveVector y = Product(layer, part, row.normed, false);
  Convolve(layer, part, row, y);
  NormHeads(layer, part, false, y);
  if (row.is_summary && layer.config.ksa.independent.qkv) {
    NaiveVector own = Product(layer, part, row.normed, true);
    NormHeads(layer, part, true, own);
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] = layer.mix * own[i] + (1.0 - layer.mix) * y[i];
    }
  }
  const bool rotates = part != "v" && OptionsOf(layer.spec).rope == RopeUse::kDefault;
  for (size_t head = 0; rotates && head < y.size(); head += static_cast<size_t>(layer.config.head_dim)) {
    Rotate(layer.config, y, head, row.position);
  }
  return y;
}

// Columns of a head of keys and of values, and the query heads that share one.
struct HeadShape {
  size_t key = 0;
  size_t value = 0;
  size_t share = 1;
};

HeadShape ShapeOf(const NaiveLayer& layer) {
  const ModelConfig& config = layer.config;
  if (ProjectionOf(layer.spec) == Projection::kMla) {
    const MlaConfig& mla = config.mixers.Of<MlaConfig>();
    return {static_cast<size_t>(mla.key_dim()), static_cast<size_t>(mla.v_head_dim), 1};
  }
  const auto e = static_cast<size_t>(config.head_dim);
  return {e, e, static_cast<size_t>(config.num_attention_heads / config.num_key_value_heads)};
}

NaiveVector Attend(const NaiveLayer& layer, Sees sees, size_t query, const std::vector<NaiveAttending>& rows) {
  const HeadShape shape = ShapeOf(layer);
  const NaiveVector& q = rows[query].q;
  const size_t heads = q.size() / shape.key;
  NaiveVector out(heads * shape.value, 0.0);
  std::vector<NaiveVector>& weights = layer.rows[query]->weights;
  weights.assign(heads, NaiveVector(rows.size(), 0.0));
  for (size_t h = 0; h < heads; ++h) {
    const size_t g = h / shape.share;
    double total = 0.0;
    for (size_t j = 0; j < rows.size(); ++j) {
      if (!sees(layer.spec, *layer.rows[query], *layer.rows[j])) {
        continue;
      }
      double score = 0.0;
      for (size_t i = 0; i < shape.key; ++i) {
        score += q[h * shape.key + i] * rows[j].k[g * shape.key + i];
      }
      const double weight = std::exp(score / std::sqrt(static_cast<double>(shape.key)));
      total += weight;
      weights[h][j] = weight;
      for (size_t i = 0; i < shape.value; ++i) {
        out[h * shape.value + i] += weight * rows[j].v[g * shape.value + i];
      }
    }
    for (size_t i = 0; i < shape.value; ++i) {
      out[h * shape.value + i] /= total;
    }
    for (double& weight : weights[h]) {
      weight /= total;
    }
  }
  return out;
}

// Softmax over all keys that a row sees, with projections, norms and rotation as docs/ksa.md has them.
void AttendWith(const NaiveLayer& layer, Sees sees) {
  std::vector<NaiveAttending> rows;
  for (const NaiveRow* row : layer.rows) {
    if (ProjectionOf(layer.spec) == Projection::kMla) {
      rows.push_back(NaiveLatentRow(layer, *row));
    } else {
      rows.push_back({Project(layer, "q", *row), Project(layer, "k", *row), Project(layer, "v", *row)});
    }
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    layer.rows[i]->mixed = NaiveMultiply(layer.get("self_attn.o_proj.weight"), Attend(layer, sees, i, rows));
  }
}

bool Always(const ModelConfig& /*config*/) {
  return true;
}

bool WhereTheyAttend(const ModelConfig& config) {
  return config.ksa.full_layers == FullLayers::kAttend;
}

// A summary sees its own chunk's text, and its summaries up to itself.
bool SummarySees(const NaiveRow& q, const NaiveRow& k) {
  return k.chunk == q.chunk && (!k.is_summary || k.index <= q.index);
}

bool InChunkWindow(const Mixer& spec, const NaiveRow& q, const NaiveRow& k) {
  return k.index <= q.index && int64_t{k.chunk} >= int64_t{q.chunk} - WindowOf(spec).chunks;
}

bool KsaSees(const Mixer& spec, const NaiveRow& q, const NaiveRow& k) {
  if (q.is_summary) {
    return SummarySees(q, k);
  }
  return k.is_summary ? int64_t{k.chunk} < int64_t{q.chunk} - WindowOf(spec).chunks : InChunkWindow(spec, q, k);
}

bool FullSees(const Mixer& /*spec*/, const NaiveRow& q, const NaiveRow& k) {
  return q.is_summary ? SummarySees(q, k) : !k.is_summary && k.index <= q.index;
}

bool SwaSees(const Mixer& spec, const NaiveRow& q, const NaiveRow& k) {
  return q.is_summary ? SummarySees(q, k)
                      : !k.is_summary && k.index <= q.index && q.index - k.index < WindowOf(spec).tokens;
}

bool ScaSees(const Mixer& spec, const NaiveRow& q, const NaiveRow& k) {
  return q.is_summary ? SummarySees(q, k) : !k.is_summary && InChunkWindow(spec, q, k);
}

template <Sees sees>
void Attention(const NaiveLayer& layer) {
  AttendWith(layer, sees);
}

}  // namespace

NaiveVector NaiveProduct(const NaiveLayer& layer, const std::string& part, const NaiveRow& row) {
  NaiveVector y = Product(layer, part, row.normed, false);
  Convolve(layer, part, row, y);
  return y;
}

NaiveVector NaiveProject(const NaiveLayer& layer, const std::string& part, const NaiveRow& row) {
  return Project(layer, part, row);
}

void NaiveRotate(const ModelConfig& config, NaiveVector& x, size_t begin, int32_t position) {
  Rotate(config, x, begin, position);
}

std::vector<NaiveMixer> NaiveAttentionMixers() {
  return {{"ksa", Always, Attention<KsaSees>},
          {"full", WhereTheyAttend, Attention<FullSees>},
          {"swa", WhereTheyAttend, Attention<SwaSees>},
          {"sca", WhereTheyAttend, Attention<ScaSees>},
          {"mla", WhereTheyAttend, Attention<FullSees>}};
}

std::optional<NaiveMixer> FindNaiveMixer(std::string_view kind) {
  for (const NaiveMixer& mixer : NaiveMixers()) {
    if (mixer.kind == kind) {
      return mixer;
    }
  }
  return std::nullopt;
}

NaiveVector NaiveTableRow(const Parameter& table, int64_t row) {
  const double* x = table.value.As<double>() + row * table.value.cols();
  return {x, x + table.value.cols()};
}

NaiveVector NaiveMultiply(const Parameter& weight, const NaiveVector& x) {
  NaiveVector y;
  for (int64_t o = 0; o < weight.value.rows(); ++o) {
    const NaiveVector w = NaiveTableRow(weight, o);
    double sum = 0.0;
    for (size_t i = 0; i < x.size(); ++i) {
      sum += w[i] * x[i];
    }
    y.push_back(sum);
  }
  return y;
}

void NaiveAdd(NaiveVector& x, const NaiveVector& y) {
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] += y[i];
  }
}

void NaiveNormalize(NaiveVector& x, size_t begin, const Parameter& weight, double eps) {
  const size_t size = static_cast<size_t>(weight.value.size());
  double squares = 0.0;
  for (size_t i = 0; i < size; ++i) {
    squares += x[begin + i] * x[begin + i];
  }
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(size) + eps);
  for (size_t i = 0; i < size; ++i) {
    x[begin + i] *= scale * weight.value.As<double>()[i];
  }
}

}  // namespace ksa::testing
