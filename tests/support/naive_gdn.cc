// Gated DeltaNet token by token.
#include <cmath>

#include "model/mixers/gdn/gdn.h"
#include "tests/support/naive_mixer.h"

namespace ksa::testing {
namespace {

double Sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// SiLU of a causal convolution over the tokens before: [tokens][channels].
std::vector<NaiveVector> Convolved(const NaiveLayer& layer, const std::string& part) {
  const Parameter& weight = layer.get("linear_attn." + part + "_proj.weight");
  const Parameter& conv = layer.get("linear_attn." + part + "_conv1d.weight");
  const auto taps = static_cast<size_t>(conv.value.shape[2]);
  const double* w = conv.value.As<double>();
  std::vector<NaiveVector> before;
  std::vector<NaiveVector> after;
  for (const NaiveRow* row : layer.rows) {
    before.push_back(NaiveMultiply(weight, row->normed));
    NaiveVector y(before.back().size(), 0.0);
    for (size_t c = 0; c < y.size(); ++c) {
      for (size_t back = 0; back < taps && back < before.size(); ++back) {
        y[c] += w[c * taps + taps - 1 - back] * before[before.size() - 1 - back][c];
      }
      y[c] *= Sigmoid(y[c]);
    }
    after.push_back(y);
  }
  return after;
}

// Columns [begin, begin + size), of length 1.
NaiveVector Direction(const NaiveVector& x, size_t begin, size_t size) {
  double squares = 1e-6;
  for (size_t i = 0; i < size; ++i) {
    squares += x[begin + i] * x[begin + i];
  }
  NaiveVector y;
  for (size_t i = 0; i < size; ++i) {
    y.push_back(x[begin + i] / std::sqrt(squares));
  }
  return y;
}

void RunGdn(const NaiveLayer& layer) {
  const auto& gdn = layer.config.mixers.Of<GdnConfig>();
  const auto dk = static_cast<size_t>(gdn.key_head_dim);
  const auto dv = static_cast<size_t>(gdn.value_head_dim);
  const auto heads = static_cast<size_t>(gdn.value_heads);
  const size_t share = heads / static_cast<size_t>(gdn.key_heads);
  const std::vector<NaiveVector> qs = Convolved(layer, "q");
  const std::vector<NaiveVector> ks = Convolved(layer, "k");
  const std::vector<NaiveVector> vs = Convolved(layer, "v");
  const auto number = [&](const char* name, size_t head) {
    return layer.get(std::string("linear_attn.") + name).value.As<double>()[head];
  };
  std::vector<double> states(heads * dk * dv, 0.0);
  for (size_t t = 0; t < layer.rows.size(); ++t) {
    NaiveRow& row = *layer.rows[t];
    const NaiveVector a = NaiveMultiply(layer.get("linear_attn.a_proj.weight"), row.normed);
    const NaiveVector b = NaiveMultiply(layer.get("linear_attn.b_proj.weight"), row.normed);
    const NaiveVector z = NaiveMultiply(layer.get("linear_attn.g_proj.weight"), row.normed);
    NaiveVector out(heads * dv, 0.0);
    for (size_t h = 0; h < heads; ++h) {
      double* s = states.data() + h * dk * dv;
      const NaiveVector q = Direction(qs[t], h / share * dk, dk);
      const NaiveVector k = Direction(ks[t], h / share * dk, dk);
      const double keep = std::exp(-std::exp(number("A_log", h)) * std::log1p(std::exp(a[h] + number("dt_bias", h))));
      const double write = (gdn.allow_neg_eigval ? 2.0 : 1.0) * Sigmoid(b[h]);
      for (size_t j = 0; j < dv; ++j) {
        double predicted = 0.0;
        for (size_t i = 0; i < dk; ++i) {
          s[i * dv + j] *= keep;
          predicted += s[i * dv + j] * k[i];
        }
        for (size_t i = 0; i < dk; ++i) {
          s[i * dv + j] += k[i] * write * (vs[t][h * dv + j] - predicted);
          out[h * dv + j] += s[i * dv + j] * q[i] / std::sqrt(static_cast<double>(dk));
        }
      }
      NaiveNormalize(out, h * dv, layer.get("linear_attn.o_norm.weight"), layer.config.rms_norm_eps);
      for (size_t j = 0; j < dv; ++j) {
        out[h * dv + j] *= z[h * dv + j] * Sigmoid(z[h * dv + j]);
      }
    }
    row.mixed = NaiveMultiply(layer.get("linear_attn.o_proj.weight"), out);
  }
}

bool Never(const ModelConfig& /*config*/) {
  return false;
}

}  // namespace

NaiveMixer NaiveGdnMixer() {
  return {"gdn", Never, RunGdn};
}

}  // namespace ksa::testing
