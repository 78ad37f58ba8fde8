#include "tests/support/naive_model.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/core.h>

namespace ksa::testing {
namespace {

using Vector = std::vector<double>;

struct Row {
  bool is_summary = false;
  int32_t chunk = 0;
  int32_t index = 0;  // text: i; summary: a
  int32_t position = 0;
  Vector x;
  Vector q;
  Vector k;
  Vector v;
};

Vector TableRow(const Parameter& table, int64_t row) {
  const double* x = table.value.As<double>() + row * table.value.cols();
  return {x, x + table.value.cols()};
}

Vector Multiply(const Parameter& weight, const Vector& x) {
  Vector y;
  for (int64_t o = 0; o < weight.value.rows(); ++o) {
    const Vector w = TableRow(weight, o);
    double sum = 0.0;
    for (size_t i = 0; i < x.size(); ++i) {
      sum += w[i] * x[i];
    }
    y.push_back(sum);
  }
  return y;
}

void AddTo(Vector& x, const Vector& y) {
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] += y[i];
  }
}

// RMSNorm of x[begin, begin + size of the weight) in place.
void Normalize(Vector& x, size_t begin, const Parameter& weight, double eps) {
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

class Naive {
 public:
  Naive(const ModelConfig& config, ParameterStore& store, double mix) : config_(config), store_(store), mix_(mix) {}

  std::vector<Vector> Logits(const std::vector<int32_t>& tokens) {
    MakeRows(tokens);
    for (int32_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      RunLayer(layer);
    }
    const Parameter& head = Get(config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
    std::vector<Vector> logits;
    for (Row& row : rows_) {
      if (!row.is_summary) {
        Normalize(row.x, 0, Get("model.norm.weight"), config_.rms_norm_eps);
        logits.push_back(Multiply(head, row.x));
      }
    }
    return logits;
  }

 private:
  Parameter& Get(const std::string& name) { return store_.Get(name); }

  Parameter& GetLayer(int32_t layer, const std::string& name) {
    return store_.Get(fmt::format("model.layers.{}.{}", layer, name));
  }

  void MakeRows(const std::vector<int32_t>& tokens) {
    const KsaConfig& ksa = config_.ksa;
    const int32_t k = config_.ChunkSize();
    const int32_t length = static_cast<int32_t>(tokens.size());
    const Parameter& table = Get("model.embed_tokens.weight");
    for (int32_t i = 0; i < length; ++i) {
      const bool inner = config_.HasSummaryRows() && ksa.text_positions == TextPositions::kInnerChunk;
      rows_.push_back({.is_summary = false,
                       .chunk = i / k,
                       .index = i,
                       .position = inner ? i % k : i,
                       .x = TableRow(table, tokens[static_cast<size_t>(i)])});
    }
    for (int32_t c = 0; config_.HasSummaryRows() && c * k < length; ++c) {
      for (int32_t a = 0; a < ksa.summary_tokens; ++a) {
        rows_.push_back({.is_summary = true,
                         .chunk = c,
                         .index = a,
                         .position = SummaryPosition(c * k, std::min(k, length - c * k), a),
                         .x = ksa.independent.embedding ? TableRow(Get("summary_embedding.weight"), a)
                                                        : TableRow(table, config_.vocab_size + a)});
      }
    }
  }

  // Of summary a of a chunk that starts at `begin` and holds `tokens` text tokens.
  [[nodiscard]] int32_t SummaryPosition(int32_t begin, int32_t tokens, int32_t a) const {
    const int32_t m = config_.ksa.summary_tokens;
    switch (config_.ksa.summary_positions) {
      case SummaryPositions::kChunkEnd:
        return std::max(begin, begin + (a + 1) * tokens / m - 1);
      case SummaryPositions::kChunkStart:
        return std::max(begin, begin + a * tokens / m - 1);
      case SummaryPositions::kZero:
        break;
    }
    return 0;
  }

  void Rotate(Vector& x, size_t begin, int32_t position) const {
    const size_t half = static_cast<size_t>(config_.head_dim / 2);
    for (size_t i = 0; i < half; ++i) {
      const double power = -2.0 * static_cast<double>(i) / config_.head_dim;
      const double angle = position * std::pow(config_.rope_theta, power);
      const double first = x[begin + i];
      const double second = x[begin + i + half];
      x[begin + i] = first * std::cos(angle) - second * std::sin(angle);
      x[begin + i + half] = second * std::cos(angle) + first * std::sin(angle);
    }
  }

  // `part` is q, k or v; own: with the summaries' own projection, and their own norm if they have one.
  Vector Projected(int32_t layer, const std::string& part, const Vector& normed, bool own) {
    Vector y = Multiply(GetLayer(layer, "self_attn." + part + (own ? "_proj_summary.weight" : "_proj.weight")), normed);
    if (config_.qk_norm && part != "v") {
      const bool own_norm = own && config_.ksa.independent.qk_norm;
      const Parameter& weight =
          GetLayer(layer, "self_attn." + part + (own_norm ? "_norm_summary.weight" : "_norm.weight"));
      for (size_t head = 0; head < y.size(); head += static_cast<size_t>(config_.head_dim)) {
        Normalize(y, head, weight, config_.rms_norm_eps);
      }
    }
    return y;
  }

  Vector Project(int32_t layer, const std::string& part, const Row& row, const Vector& normed) {
    Vector y = Projected(layer, part, normed, false);
    if (row.is_summary && config_.ksa.independent.qkv) {
      const Vector own = Projected(layer, part, normed, true);
      for (size_t i = 0; i < y.size(); ++i) {
        y[i] = mix_ * own[i] + (1.0 - mix_) * y[i];
      }
    }
    for (size_t head = 0; part != "v" && head < y.size(); head += static_cast<size_t>(config_.head_dim)) {
      Rotate(y, head, row.position);
    }
    return y;
  }

  [[nodiscard]] static bool Sees(const LayerSpec& layer, const Row& q, const Row& k) {
    if (q.is_summary) {
      return k.chunk == q.chunk && (!k.is_summary || k.index <= q.index);
    }
    if (k.is_summary) {
      return layer.kind == LayerKind::kKsa && int64_t{k.chunk} < int64_t{q.chunk} - layer.window_chunks;
    }
    switch (layer.kind) {
      case LayerKind::kKsa:
      case LayerKind::kSca:
        return k.index <= q.index && int64_t{k.chunk} >= int64_t{q.chunk} - layer.window_chunks;
      case LayerKind::kSwa:
        return k.index <= q.index && q.index - k.index < layer.window_tokens;
      case LayerKind::kFull:
        break;
    }
    return k.index <= q.index;
  }

  Vector Attend(const LayerSpec& layer, const Row& query, const std::vector<Row*>& rows) const {
    const size_t e = static_cast<size_t>(config_.head_dim);
    const size_t share = static_cast<size_t>(config_.num_attention_heads / config_.num_key_value_heads);
    Vector out(query.q.size(), 0.0);
    for (size_t h = 0; h < query.q.size() / e; ++h) {
      const size_t g = h / share;
      double total = 0.0;
      for (const Row* key : rows) {
        if (!Sees(layer, query, *key)) {
          continue;
        }
        double score = 0.0;
        for (size_t i = 0; i < e; ++i) {
          score += query.q[h * e + i] * key->k[g * e + i];
        }
        const double weight = std::exp(score / std::sqrt(static_cast<double>(e)));
        total += weight;
        for (size_t i = 0; i < e; ++i) {
          out[h * e + i] += weight * key->v[g * e + i];
        }
      }
      for (size_t i = 0; i < e; ++i) {
        out[h * e + i] /= total;
      }
    }
    return out;
  }

  void RunLayer(int32_t layer) {
    const LayerSpec& spec = config_.layers[static_cast<size_t>(layer)];
    const bool summaries = spec.kind == LayerKind::kKsa || config_.ksa.full_layers == FullLayers::kAttend;
    std::vector<Row*> rows;
    for (Row& row : rows_) {
      if (summaries || !row.is_summary) {
        rows.push_back(&row);
      }
    }
    for (Row* row : rows) {
      const bool own_norm = row->is_summary && config_.ksa.independent.norm;
      Vector normed = row->x;
      Normalize(normed,
                0,
                GetLayer(layer, own_norm ? "input_layernorm_summary.weight" : "input_layernorm.weight"),
                config_.rms_norm_eps);
      row->q = Project(layer, "q", *row, normed);
      row->k = Project(layer, "k", *row, normed);
      row->v = Project(layer, "v", *row, normed);
    }
    for (Row* row : rows) {
      AddTo(row->x, Multiply(GetLayer(layer, "self_attn.o_proj.weight"), Attend(spec, *row, rows)));
      Vector normed = row->x;
      Normalize(normed, 0, GetLayer(layer, "post_attention_layernorm.weight"), config_.rms_norm_eps);
      Vector hidden = Multiply(GetLayer(layer, "mlp.up_proj.weight"), normed);
      const Vector gate = Multiply(GetLayer(layer, "mlp.gate_proj.weight"), normed);
      for (size_t i = 0; i < hidden.size(); ++i) {
        hidden[i] *= gate[i] / (1.0 + std::exp(-gate[i]));
      }
      AddTo(row->x, Multiply(GetLayer(layer, "mlp.down_proj.weight"), hidden));
    }
  }

  const ModelConfig& config_;
  ParameterStore& store_;
  double mix_;
  std::vector<Row> rows_;
};

}  // namespace

std::vector<std::vector<double>> NaiveLogits(const ModelConfig& config,
                                             ParameterStore& store,
                                             const std::vector<int32_t>& tokens,
                                             double mix) {
  return Naive(config, store, mix).Logits(tokens);
}

double NaiveTokenLoss(const std::vector<double>& logits, int32_t target) {
  double total = 0.0;
  for (const double logit : logits) {
    total += std::exp(logit);
  }
  return std::log(total) - logits[static_cast<size_t>(target)];
}

}  // namespace ksa::testing
