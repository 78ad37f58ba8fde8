// Multi-head latent attention in plain loops: a row's queries, and the keys and values of every head.
#include <cmath>

#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/mla/mla.h"
#include "tests/support/naive_mixer.h"

namespace ksa::testing {
namespace {

constexpr double kLatentEps = 1e-6;

NaiveVector Part(const NaiveVector& x, size_t begin, size_t count) {
  const auto first = x.begin() + static_cast<std::ptrdiff_t>(begin);
  return {first, first + static_cast<std::ptrdiff_t>(count)};
}

void Mix(NaiveVector& base, const NaiveVector& own, double a) {
  for (size_t i = 0; i < base.size(); ++i) {
    base[i] = a * own[i] + (1.0 - a) * base[i];
  }
}

class Row {
 public:
  Row(const NaiveLayer& layer, const NaiveRow& row)
      : layer_(layer), row_(row), config_(layer.config.mixers.Of<MlaConfig>()) {}

  [[nodiscard]] NaiveVector Queries() const {
    NaiveVector q;
    const bool has_own = row_.is_summary && layer_.config.ksa.independent.qkv;
    if (config_.q_lora_rank) {
      NaiveVector latent = QueryLatent(false);
      if (has_own) {
        Mix(latent, QueryLatent(true), layer_.mix);
      }
      q = NaiveMultiply(Get("q_b_proj", false), latent);
      if (Taps() > 0 && !row_.is_summary) {
        Convolve("q_conv1d", q, [](const Row& earlier) {
          return NaiveMultiply(earlier.Get("q_b_proj", false), earlier.QueryLatent(false));
        });
      }
    } else {
      q = NaiveMultiply(Get("q_proj", false), row_.normed);
      if (has_own) {
        Mix(q, NaiveMultiply(Get("q_proj", true), row_.normed), layer_.mix);
      }
      if (Taps() > 0 && !row_.is_summary) {
        Convolve("q_conv1d", q, [](const Row& earlier) {
          return NaiveMultiply(earlier.Get("q_proj", false), earlier.row_.normed);
        });
      }
    }
    for (size_t head = 0; head < q.size(); head += static_cast<size_t>(config_.key_dim())) {
      Rotate(q, head + static_cast<size_t>(config_.qk_nope_head_dim));
    }
    return q;
  }

  void KeysAndValues(NaiveVector& k, NaiveVector& v) const {
    NaiveVector latent = Latent(false);
    if (row_.is_summary && layer_.config.ksa.independent.qkv) {
      Mix(latent, Latent(true), layer_.mix);
    }
    const auto rank = static_cast<size_t>(config_.kv_lora_rank);
    Rotate(latent, rank);
    const NaiveVector rope = Part(latent, rank, static_cast<size_t>(config_.qk_rope_head_dim));
    const NaiveVector heads = NaiveMultiply(Get("kv_b_proj", false), Part(latent, 0, rank));
    const auto nope = static_cast<size_t>(config_.qk_nope_head_dim);
    const auto values = static_cast<size_t>(config_.v_head_dim);
    for (size_t head = 0; head < heads.size(); head += nope + values) {
      k.insert(k.end(),
               heads.begin() + static_cast<std::ptrdiff_t>(head),
               heads.begin() + static_cast<std::ptrdiff_t>(head + nope));
      k.insert(k.end(), rope.begin(), rope.end());
      const NaiveVector value = Part(heads, head + nope, values);
      v.insert(v.end(), value.begin(), value.end());
    }
  }

 private:
  [[nodiscard]] const Parameter& Get(const std::string& name, bool own) const {
    return layer_.get("self_attn." + name + (own ? "_summary.weight" : ".weight"));
  }

  [[nodiscard]] int32_t Taps() const { return OptionsOf(layer_.spec).short_conv; }

  [[nodiscard]] NaiveVector QueryLatent(bool own) const {
    NaiveVector latent = NaiveMultiply(Get("q_a_proj", own), row_.normed);
    NaiveNormalize(latent, 0, Get("q_a_layernorm", own && layer_.config.ksa.independent.qk_norm), kLatentEps);
    return latent;
  }

  // [latent, normed | rope, not rotated]
  [[nodiscard]] NaiveVector Latent(bool own) const {
    NaiveVector rows = NaiveMultiply(Get("kv_a_proj_with_mqa", own), row_.normed);
    if (Taps() > 0 && !row_.is_summary) {
      Convolve("kv_a_conv1d", rows, [](const Row& earlier) {
        return NaiveMultiply(earlier.Get("kv_a_proj_with_mqa", false), earlier.row_.normed);
      });
    }
    NaiveNormalize(rows, 0, Get("kv_a_layernorm", own && layer_.config.ksa.independent.qk_norm), kLatentEps);
    return rows;
  }

  // Adds the taps of this text row and of those before it, whose products are `of`(row).
  template <typename Of>
  void Convolve(const std::string& name, NaiveVector& y, const Of& of) const {
    const Parameter& weight = Get(name, false);
    for (int32_t j = 0; j < Taps() && j <= row_.index; ++j) {
      const NaiveVector x = of(Row(layer_, *layer_.rows[static_cast<size_t>(row_.index - j)]));
      for (size_t c = 0; c < y.size(); ++c) {
        y[c] += weight.value.As<double>()[c * static_cast<size_t>(Taps()) + static_cast<size_t>(Taps() - 1 - j)] * x[c];
      }
    }
  }

  void Rotate(NaiveVector& x, size_t begin) const {
    if (OptionsOf(layer_.spec).rope == RopeUse::kNone) {
      return;
    }
    const auto half = static_cast<size_t>(config_.qk_rope_head_dim / 2);
    for (size_t i = 0; i < half; ++i) {
      const double power = -2.0 * static_cast<double>(i) / config_.qk_rope_head_dim;
      const double angle = row_.position * std::pow(layer_.config.rope_theta, power);
      const double first = x[begin + i];
      const double second = x[begin + i + half];
      x[begin + i] = first * std::cos(angle) - second * std::sin(angle);
      x[begin + i + half] = second * std::cos(angle) + first * std::sin(angle);
    }
  }

  const NaiveLayer& layer_;
  const NaiveRow& row_;
  const MlaConfig& config_;
};

}  // namespace

NaiveAttending NaiveLatentRow(const NaiveLayer& layer, const NaiveRow& row) {
  const Row latent(layer, row);
  NaiveAttending attending = {latent.Queries(), {}, {}};
  latent.KeysAndValues(attending.k, attending.v);
  return attending;
}

}  // namespace ksa::testing
