#include "model/ksa/attention_shares.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"
#include "model/layers/block.h"
#include "model/mixers/attention_rows.h"
#include "model/mixers/mixer.h"
#include "model/mixers/rope_tables.h"

namespace ksa {
namespace {

double ToNumber(double x) {
  return x;
}

double ToNumber(float x) {
  return static_cast<double>(x);
}

double ToNumber(BFloat16 x) {
  return static_cast<double>(static_cast<float>(x));
}

// The weight of one query of one head on each key that it sees.
struct Weights {
  std::vector<int64_t> keys;  // rows of k
  std::vector<double> weights;
};

// Queries and keys of a layer on the host.
class HostRows {
 public:
  HostRows(const AttentionRows& rows, const Stream& stream)
      : rows_(rows),
        q_(rows.q, stream),
        k_(rows.k, stream),
        heads_(static_cast<int>(rows.q.cols() / rows.head_dim)),
        share_(static_cast<int>(rows.q.cols() / rows.k.cols())) {}

  [[nodiscard]] int heads() const { return heads_; }

  [[nodiscard]] const AttentionRows& rows() const { return rows_; }

  // Softmax over the keys.
  void Weigh(int64_t query, int head, Weights& seen) const {
    DispatchFloating(rows_.q.dtype(), [&](auto element) { WeighAs<decltype(element)>(query, head, seen); });
  }

 private:
  template <typename T>
  void WeighAs(int64_t query, int head, Weights& seen) const {
    const auto e = static_cast<int64_t>(rows_.head_dim);
    const T* q = q_.As<T>() + query * rows_.q.cols() + head * e;
    const T* k = k_.As<T>() + head / share_ * e;
    const double scale = 1.0 / std::sqrt(static_cast<double>(e));
    seen.weights.clear();
    double largest = -INFINITY;
    for (const int64_t key : seen.keys) {
      double score = 0;
      for (int64_t i = 0; i < e; ++i) {
        score += ToNumber(q[i]) * ToNumber(k[key * rows_.k.cols() + i]);
      }
      seen.weights.push_back(score * scale);
      largest = std::max(largest, seen.weights.back());
    }
    double total = 0;
    for (double& weight : seen.weights) {
      weight = std::exp(weight - largest);
      total += weight;
    }
    for (double& weight : seen.weights) {
      weight /= total;
    }
  }

  AttentionRows rows_;
  HostCopy q_;
  HostCopy k_;
  int heads_;
  int share_;  // query heads a key head
};

// Ages 0, 1, 2-3, 4-7, ...
size_t BucketOf(int32_t age) {
  size_t bucket = 0;
  while ((int32_t{1} << bucket) <= age) {
    ++bucket;
  }
  return bucket;
}

AgeShare EmptyBucket(size_t bucket) {
  return bucket == 0 ? AgeShare{0, 0, 0} : AgeShare{int32_t{1} << (bucket - 1), (int32_t{1} << bucket) - 1, 0};
}

std::vector<int64_t> KeysOfText(const SummaryLayout& layout, const AttentionWindow& window, int32_t i) {
  std::vector<int64_t> keys;
  const Range text = layout.TextKeys(window, 0, i);
  for (int32_t j = text.begin; j < text.end; ++j) {
    keys.push_back(layout.TextRow(0, j));
  }
  const Range summaries = layout.SummaryKeys(window, 0, i);
  for (int32_t s = summaries.begin; s < summaries.end; ++s) {
    keys.push_back(layout.SummaryRow(0, s));
  }
  return keys;
}

std::vector<int64_t> KeysOfSummary(const SummaryLayout& layout, int32_t summary) {
  std::vector<int64_t> keys;
  const Range text = layout.SummaryTextKeys(0, summary);
  for (int32_t j = text.begin; j < text.end; ++j) {
    keys.push_back(layout.TextRow(0, j));
  }
  const Range own = layout.SummarySummaryKeys(summary);
  for (int32_t s = own.begin; s < own.end; ++s) {
    keys.push_back(layout.SummaryRow(0, s));
  }
  return keys;
}

// Of the chosen text rows.
void MeasureText(const HostRows& host, const AttentionQuestion& question, HeadShares& shares) {
  const SummaryLayout& layout = host.rows().layout;
  const double part = 1.0 / static_cast<double>(question.rows.size());  // of a row
  std::vector<double> by_age;
  std::map<int32_t, double> by_chunk;
  Weights seen;
  for (const int32_t i : question.rows) {
    seen.keys = KeysOfText(layout, host.rows().window, i);
    host.Weigh(layout.TextRow(0, i), shares.head, seen);
    const int32_t chunk = layout.ChunkOfText(i);
    for (size_t n = 0; n < seen.keys.size(); ++n) {
      const SummaryLayout::Place key = layout.Locate(seen.keys[n]);
      const double share = seen.weights[n] * part;
      if (key.is_text) {
        (layout.ChunkOfText(key.index) == chunk ? shares.own : shares.window) += share;
        continue;
      }
      const int32_t of = layout.ChunkOfSummary(key.index);
      by_chunk[of] += share;
      const size_t bucket = BucketOf(chunk - of);
      by_age.resize(std::max(by_age.size(), bucket + 1));
      by_age[bucket] += share;
    }
  }
  size_t bucket = 0;
  while (bucket < by_age.size() && by_age[bucket] == 0) {  // younger than any that is seen
    ++bucket;
  }
  for (; bucket < by_age.size(); ++bucket) {
    shares.summaries_by_age.push_back(EmptyBucket(bucket));
    shares.summaries_by_age.back().share = by_age[bucket];
  }
  for (const auto& [chunk, share] : by_chunk) {
    shares.top.push_back({chunk, share});
  }
  std::stable_sort(
      shares.top.begin(), shares.top.end(), [](const auto& a, const auto& b) { return a.share > b.share; });
  shares.top.resize(std::min(shares.top.size(), question.top));
}

// Of as many summary rows, spread evenly.
void MeasureSummaries(const HostRows& host, const AttentionQuestion& question, HeadShares& shares) {
  const SummaryLayout& layout = host.rows().layout;
  const auto there = static_cast<int64_t>(host.rows().q.rows() - layout.text_rows());
  const int64_t taken = std::min<int64_t>(there, static_cast<int64_t>(question.rows.size()));
  if (taken <= 0) {
    return;
  }
  shares.summary_reads.assign(static_cast<size_t>(layout.chunk_size), 0.0);
  Weights seen;
  for (int64_t n = 0; n < taken; ++n) {
    const auto summary = static_cast<int32_t>(n * there / taken);
    seen.keys = KeysOfSummary(layout, summary);
    host.Weigh(layout.SummaryRow(0, summary), shares.head, seen);
    for (size_t j = 0; j < seen.keys.size(); ++j) {
      const SummaryLayout::Place key = layout.Locate(seen.keys[j]);
      double& share = key.is_text ? shares.summary_reads[static_cast<size_t>(key.index % layout.chunk_size)]
                                  : shares.summary_reads_summaries;
      share += seen.weights[j] / static_cast<double>(taken);
    }
  }
}

// How summary rows went through a layer: as the rows before and behind it say.
SummaryRole RoleIn(const ModelConfig& config, int32_t layer, const Var& before, const Var& behind) {
  if (behind.rows() < before.rows()) {
    return SummaryRole::kKeysOnly;
  }
  const bool attend = before.rows() > 0 && config.SummariesAttend(layer) && layer < config.LastKsaLayer();
  return attend ? SummaryRole::kAttend : SummaryRole::kBypass;
}

}  // namespace

AttentionAnswer MeasureAttention(KsaModel& model,
                                 const ExecContext& cx,
                                 KsaModel::Input input,
                                 const AttentionQuestion& question) {
  const ModelConfig& config = model.config();
  KSA_CHECK(input.layout.sequences == 1 && !question.rows.empty(), "one sequence, and at least one row of it");
  std::vector<Var> trace;
  input.trace = &trace;
  static_cast<void>(model.Hidden(cx, input));
  RopeTables ropes(input.layout.total(), config.rope_theta, model.store().state_dtype(), *cx.allocator, cx.stream);
  AttentionAnswer answer;
  for (int32_t i = 0; i < config.num_hidden_layers; ++i) {
    const LayerParameters parameters(model.store(), LayerPrefix(i));
    const LayerSpec& spec = config.layers[static_cast<size_t>(i)];
    const std::unique_ptr<BoundMixer> mixer = spec->Bind(config, parameters, ropes);
    const auto* source = dynamic_cast<const ShowsAttention*>(mixer.get());
    if (source == nullptr) {
      answer.others.emplace_back(i, std::string(spec->kind().name()));
      continue;
    }
    const Var& before = trace[static_cast<size_t>(i)];
    MixerCall call = {.layout = input.layout, .whole = input.layout};
    call.role = RoleIn(config, i, before, trace[static_cast<size_t>(i) + 1]);
    call.mix = input.mix;
    const WeightPair norm = parameters.Pair("input_layernorm.weight", "input_layernorm_summary.weight");
    const RowCounts rows = call.RowsIn();
    const NormedSum normed = NormOfSum(cx, {before}, rows.total(), norm, rows.text, config.rms_norm_eps);
    const HostRows host(source->RowsOf(cx, normed.normed, call), cx.stream);
    for (int head = 0; head < host.heads(); ++head) {
      HeadShares shares;
      shares.layer = i;
      shares.head = head;
      MeasureText(host, question, shares);
      MeasureSummaries(host, question, shares);
      answer.heads.push_back(std::move(shares));
    }
  }
  return answer;
}

std::vector<int32_t> RowsThatSeeSummaries(const ModelConfig& config, int32_t tokens, int32_t count) {
  const int64_t window = config.HasSummaryRows() ? config.MinKsaWindow() : int64_t{0};
  const int64_t first = (window + 1) * config.ChunkSize();
  const auto begin = static_cast<int32_t>(config.HasSummaryRows() && first < tokens ? first : 0);
  const int32_t there = tokens - begin;
  std::vector<int32_t> rows;
  for (int32_t n = 1; n <= std::min(count, there); ++n) {
    rows.push_back(begin + static_cast<int32_t>(int64_t{n} * there / std::min(count, there)) - 1);
  }
  return rows;
}

}  // namespace ksa
