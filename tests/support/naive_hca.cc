// hca in plain loops, a chunk and a channel at a time.
#include <cmath>

#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/hca/hca.h"
#include "tests/support/naive_mixer.h"

namespace ksa::testing {
namespace {

struct Entry {
  NaiveVector k;
  NaiveVector v;
};

double Element(const Parameter& table, size_t row, size_t column) {
  return NaiveTableRow(table, static_cast<int64_t>(row))[column];
}

// The rows of a whole chunk pooled by the softmax over its slots of gate + bias, channel by channel.
NaiveVector Pooled(const NaiveLayer& layer,
                   const std::vector<const NaiveRow*>& chunk,
                   const std::vector<NaiveVector>& x,
                   const std::string& suffix) {
  const Parameter& bias = layer.get("self_attn.compressor.position_bias" + suffix);
  std::vector<NaiveVector> gates;
  for (const NaiveRow* row : chunk) {
    gates.push_back(NaiveMultiply(layer.get("self_attn.compressor.gate_proj" + suffix + ".weight"), row->normed));
  }
  NaiveVector pooled;
  for (size_t c = 0; c < x.front().size(); ++c) {
    double total = 0.0;
    double sum = 0.0;
    for (size_t s = 0; s < chunk.size(); ++s) {
      const double weight = std::exp(gates[s][c] + Element(bias, s, c));
      total += weight;
      sum += weight * x[s][c];
    }
    pooled.push_back(sum / total);
  }
  return pooled;
}

std::vector<NaiveVector> RowsToPool(const NaiveLayer& layer,
                                    const std::vector<const NaiveRow*>& chunk,
                                    const std::string& part) {
  const bool own = layer.config.mixers.Of<HcaConfig>().independent_kv;
  std::vector<NaiveVector> rows;
  for (const NaiveRow* row : chunk) {
    rows.push_back(own ? NaiveMultiply(layer.get("self_attn.compressor." + part + "_proj.weight"), row->normed)
                       : NaiveProduct(layer, part, *row));
  }
  return rows;
}

void NormHeads(const NaiveLayer& layer, const std::string& name, NaiveVector& x) {
  for (size_t head = 0; head < x.size(); head += static_cast<size_t>(layer.config.head_dim)) {
    NaiveNormalize(x, head, layer.get("self_attn.compressor." + name), layer.config.rms_norm_eps);
  }
}

Entry MakeEntry(const NaiveLayer& layer, const std::vector<const NaiveRow*>& chunk) {
  const HcaConfig& hca = layer.config.mixers.Of<HcaConfig>();
  const std::string of_values = hca.gate == HcaGate::kSeparate ? "_value" : "";
  Entry entry = {Pooled(layer, chunk, RowsToPool(layer, chunk, "k"), ""),
                 Pooled(layer, chunk, RowsToPool(layer, chunk, "v"), of_values)};
  if (layer.config.qk_norm) {
    NormHeads(layer, "k_norm.weight", entry.k);
  }
  if (hca.value_norm) {
    NormHeads(layer, "v_norm.weight", entry.v);
  }
  const int32_t begin = chunk.front()->index;
  const int32_t position = hca.compressed_positions == SummaryPositions::kChunkEnd ? begin + hca.chunk_size - 1
                           : hca.compressed_positions == SummaryPositions::kZero   ? 0
                                                                                   : begin;
  for (size_t head = 0; head < entry.k.size(); head += static_cast<size_t>(layer.config.head_dim)) {
    if (OptionsOf(layer.spec).rope == RopeUse::kDefault) {
      NaiveRotate(layer.config, entry.k, head, position);
    }
  }
  return entry;
}

// The keys and values that a text row sees.
std::vector<Entry> KeysOf(const NaiveLayer& layer,
                          const std::vector<Entry>& text,
                          const std::vector<Entry>& entries,
                          const NaiveRow& query) {
  const HcaConfig& hca = layer.config.mixers.Of<HcaConfig>();
  const int64_t first_chunk = int64_t{query.chunk} - WindowOf(layer.spec).chunks;
  std::vector<Entry> keys;
  for (int32_t j = 0; j <= query.index; ++j) {
    if (layer.rows[static_cast<size_t>(j)]->chunk >= first_chunk) {
      keys.push_back(text[static_cast<size_t>(j)]);
    }
  }
  for (int32_t c = 0; c < static_cast<int32_t>(entries.size()); ++c) {
    const bool sees =
        hca.visibility == HcaVisibility::kOverlap ? (c + 1) * hca.chunk_size <= query.index + 1 : c < first_chunk;
    if (sees) {
      keys.push_back(entries[static_cast<size_t>(c)]);
    }
  }
  return keys;
}

NaiveVector Attend(const ModelConfig& config, const NaiveVector& q, const std::vector<Entry>& keys) {
  const auto e = static_cast<size_t>(config.head_dim);
  const auto share = static_cast<size_t>(config.num_attention_heads / config.num_key_value_heads);
  NaiveVector out(q.size(), 0.0);
  for (size_t h = 0; h < q.size() / e; ++h) {
    const size_t g = h / share;
    double total = 0.0;
    for (const Entry& key : keys) {
      double score = 0.0;
      for (size_t i = 0; i < e; ++i) {
        score += q[h * e + i] * key.k[g * e + i];
      }
      const double weight = std::exp(score / std::sqrt(static_cast<double>(e)));
      total += weight;
      for (size_t i = 0; i < e; ++i) {
        out[h * e + i] += weight * key.v[g * e + i];
      }
    }
    for (size_t i = 0; i < e; ++i) {
      out[h * e + i] /= total;
    }
  }
  return out;
}

void RunHca(const NaiveLayer& layer) {
  const auto k = static_cast<size_t>(layer.config.mixers.Of<HcaConfig>().chunk_size);
  std::vector<Entry> text;
  std::vector<Entry> entries;
  for (size_t i = 0; i < layer.rows.size(); ++i) {
    const NaiveRow& row = *layer.rows[i];
    text.push_back({NaiveProject(layer, "k", row), NaiveProject(layer, "v", row)});
    if ((i + 1) % k == 0) {
      const auto end = layer.rows.begin() + static_cast<std::ptrdiff_t>(i + 1);
      entries.push_back(MakeEntry(layer, {end - static_cast<std::ptrdiff_t>(k), end}));
    }
  }
  for (NaiveRow* row : layer.rows) {
    const NaiveVector q = NaiveProject(layer, "q", *row);
    row->mixed = NaiveMultiply(layer.get("self_attn.o_proj.weight"),
                               Attend(layer.config, q, KeysOf(layer, text, entries, *row)));
  }
}

bool Never(const ModelConfig& /*config*/) {
  return false;
}

}  // namespace

NaiveMixer NaiveHcaMixer() {
  return {"hca", Never, RunHca};
}

}  // namespace ksa::testing
