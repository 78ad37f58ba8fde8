#include "tests/support/naive_model.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "model/mixers/mixer.h"
#include "tests/support/naive_mixer.h"

namespace ksa::testing {
namespace {

class Naive {
 public:
  Naive(const ModelConfig& config, ParameterStore& store, double mix) : config_(config), store_(store), mix_(mix) {}

  std::vector<NaiveVector> Logits(const std::vector<int32_t>& tokens) {
    MakeRows(tokens);
    for (int32_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      RunLayer(layer);
    }
    const Parameter& head = Get(config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
    std::vector<NaiveVector> logits;
    for (NaiveRow& row : rows_) {
      if (!row.is_summary) {
        NaiveNormalize(row.x, 0, Get("model.norm.weight"), config_.rms_norm_eps);
        logits.push_back(NaiveMultiply(head, row.x));
      }
    }
    return logits;
  }

  // By layer, once Logits has run.
  [[nodiscard]] std::vector<std::vector<NaiveRow>> TakeAttention() { return std::move(attention_); }

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
                       .x = NaiveTableRow(table, tokens[static_cast<size_t>(i)])});
    }
    for (int32_t c = 0; config_.HasSummaryRows() && c * k < length; ++c) {
      for (int32_t a = 0; a < ksa.summary_tokens; ++a) {
        rows_.push_back({.is_summary = true,
                         .chunk = c,
                         .index = a,
                         .position = SummaryPosition(c * k, std::min(k, length - c * k), a),
                         .x = ksa.independent.embedding ? NaiveTableRow(Get("summary_embedding.weight"), a)
                                                        : NaiveTableRow(table, config_.vocab_size + a)});
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

  void RunLayer(int32_t layer) {
    const LayerSpec& spec = config_.layers[static_cast<size_t>(layer)];
    const std::optional<NaiveMixer> mixer = FindNaiveMixer(spec->kind().name());
    KSA_CHECK(mixer.has_value(), "the naive model has no {} layers; add one to NaiveMixers()", spec->kind().name());
    std::vector<NaiveRow*> rows;
    for (NaiveRow& row : rows_) {
      if (!row.is_summary || mixer->summaries_run(config_)) {
        rows.push_back(&row);
      }
    }
    for (NaiveRow* row : rows) {
      const bool own_norm = row->is_summary && config_.ksa.independent.norm;
      row->normed = row->x;
      NaiveNormalize(row->normed,
                     0,
                     GetLayer(layer, own_norm ? "input_layernorm_summary.weight" : "input_layernorm.weight"),
                     config_.rms_norm_eps);
    }
    const auto get = [&](const std::string& name) -> const Parameter& { return GetLayer(layer, name); };
    for (NaiveRow* row : rows) {
      row->weights.clear();
    }
    mixer->run({config_, *spec, get, mix_, rows});
    attention_.emplace_back();
    for (const NaiveRow* row : rows) {
      attention_.back().push_back(*row);
    }
    for (NaiveRow* row : rows) {
      NaiveAdd(row->x, row->mixed);
      if (config_.intermediate_size > 0) {
        RunMlp(layer, *row);
      }
    }
  }

  void RunMlp(int32_t layer, NaiveRow& row) {
    NaiveVector normed = row.x;
    NaiveNormalize(normed, 0, GetLayer(layer, "post_attention_layernorm.weight"), config_.rms_norm_eps);
    NaiveVector hidden = NaiveMultiply(GetLayer(layer, "mlp.up_proj.weight"), normed);
    const NaiveVector gate = NaiveMultiply(GetLayer(layer, "mlp.gate_proj.weight"), normed);
    for (size_t i = 0; i < hidden.size(); ++i) {
      hidden[i] *= gate[i] / (1.0 + std::exp(-gate[i]));
    }
    NaiveAdd(row.x, NaiveMultiply(GetLayer(layer, "mlp.down_proj.weight"), hidden));
  }

  const ModelConfig& config_;
  ParameterStore& store_;
  double mix_;
  std::vector<NaiveRow> rows_;
  std::vector<std::vector<NaiveRow>> attention_;
};

}  // namespace

std::vector<std::vector<double>> NaiveLogits(const ModelConfig& config,
                                             ParameterStore& store,
                                             const std::vector<int32_t>& tokens,
                                             double mix) {
  return Naive(config, store, mix).Logits(tokens);
}

std::vector<std::vector<NaiveRow>> NaiveAttention(const ModelConfig& config,
                                                  ParameterStore& store,
                                                  const std::vector<int32_t>& tokens,
                                                  double mix) {
  Naive naive(config, store, mix);
  static_cast<void>(naive.Logits(tokens));
  return naive.TakeAttention();
}

double NaiveTokenLoss(const std::vector<double>& logits, int32_t target) {
  double total = 0.0;
  for (const double logit : logits) {
    total += std::exp(logit);
  }
  return std::log(total) - logits[static_cast<size_t>(target)];
}

}  // namespace ksa::testing
