#include "model/ksa/model.h"

#include <algorithm>
#include <utility>

#include "kernels/gemm/gemm.h"
#include "kernels/rope/qk_norm_rope.h"
#include "model/autograd/milestone.h"
#include "model/autograd/recompute.h"
#include "model/ksa/parameters.h"
#include "model/ops/collectives.h"
#include "model/ops/embedding.h"
#include "parallel/context/slices.h"

namespace ksa {

SummaryLayout MakeLayout(const ModelConfig& config,
                         int32_t sequences,
                         int32_t text_tokens,
                         const int32_t* document_first_chunk,
                         const int32_t* chunk_tokens) {
  SummaryLayout layout;
  layout.sequences = sequences;
  layout.text_tokens = text_tokens;
  layout.chunk_size = config.ChunkSize();
  layout.summary_tokens = config.SummaryTokens();
  if (config.HasSummaryRows()) {
    layout.live_chunks = LiveChunks(layout.chunks(), config.MinKsaWindow());
    layout.text_positions = config.ksa.text_positions;
    layout.summary_positions = config.ksa.summary_positions;
  }
  layout.document_first_chunk = document_first_chunk;
  layout.chunk_tokens = chunk_tokens;
  return layout;
}

namespace {

// The whole sequences of which a rank's layout has a part.
SummaryLayout WholeLayout(const ModelConfig& config, const SummaryLayout& local) {
  return MakeLayout(config, local.sequences, local.total(), local.document_first_chunk, local.chunk_tokens);
}

// With one context rank any layout of the model goes.
void CheckPart(const ExecContext& cx, const ModelConfig& config, const SummaryLayout& layout) {
  if (!IsContextParallel(cx)) {
    KSA_CHECK(layout.total() == layout.text_tokens, "a part of a sequence, but one context rank runs the model");
    return;
  }
  const int ranks = cx.mesh->Size(MeshAxis::kContext);
  const int rank = cx.mesh->Rank(MeshAxis::kContext);
  const SummaryLayout expected = MakeLocalLayout(WholeLayout(config, layout), ranks, rank);
  KSA_CHECK(layout.rows() == expected.rows() && layout.text_tokens == expected.text_tokens &&
                layout.first_chunk == expected.first_chunk && layout.second_chunk == expected.second_chunk,
            "context rank {} of {} holds {} tokens of a sequence of {} and {} rows; its layout has {} and {}",
            rank,
            ranks,
            expected.text_tokens,
            layout.total(),
            expected.rows(),
            layout.text_tokens,
            layout.rows());
}

}  // namespace

double AnnealMix(const ModelConfig& config, int64_t update) {
  if (!config.ksa.anneal.has_value() || !config.HasSummaryRows()) {
    return 1.0;
  }
  const AnnealConfig& anneal = *config.ksa.anneal;
  const double done =
      static_cast<double>(update - anneal.start_step) / static_cast<double>(anneal.end_step - anneal.start_step);
  return std::clamp(1.0 - done, 0.0, 1.0);
}

KsaModel::KsaModel(
    const ModelConfig& config, ParameterStore& store, Allocator& allocator, const Stream& stream, int64_t positions)
    : config_(config), store_(store) {
  for (int32_t i = 0; i < config_.num_hidden_layers; ++i) {
    const auto get = [&](const char* name) { return &store_.Get(LayerParameterName(i, name)); };
    Layer layer;
    layer.spec = config_.layers[static_cast<size_t>(i)];
    layer.summaries_attend = config_.SummariesAttend(i);
    layer.attention.norm = Pair(i, "input_layernorm.weight", "input_layernorm_summary.weight");
    layer.attention.q = Pair(i, "self_attn.q_proj.weight", "self_attn.q_proj_summary.weight");
    layer.attention.k = Pair(i, "self_attn.k_proj.weight", "self_attn.k_proj_summary.weight");
    layer.attention.v = Pair(i, "self_attn.v_proj.weight", "self_attn.v_proj_summary.weight");
    layer.attention.q_norm = Pair(i, "self_attn.q_norm.weight", "self_attn.q_norm_summary.weight");
    layer.attention.k_norm = Pair(i, "self_attn.k_norm.weight", "self_attn.k_norm_summary.weight");
    layer.attention.out = get("self_attn.o_proj.weight");
    layer.mlp = {get("post_attention_layernorm.weight"),
                 get("mlp.gate_proj.weight"),
                 get("mlp.up_proj.weight"),
                 get("mlp.down_proj.weight")};
    layers_.push_back(layer);
  }
  head_ = &store_.Get(config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  rope_table_ = Tensor::Empty({positions, config_.head_dim / 2, 2}, store_.state_dtype(), allocator);
  FillRopeTable(rope_table_, config_.rope_theta, stream);
}

WeightPair KsaModel::Pair(int32_t layer, const char* name, const char* summary_name) {
  return {store_.Find(LayerParameterName(layer, name)), store_.Find(LayerParameterName(layer, summary_name))};
}

Residual KsaModel::RunLayer(const ExecContext& cx, const Residual& x, size_t index, const Input& input) {
  const Layer& layer = layers_[index];
  const int32_t summaries_left = config_.LastKsaLayer() - static_cast<int32_t>(index);  // layers that have them
  SummaryRole role = layer.summaries_attend ? SummaryRole::kAttend : SummaryRole::kBypass;
  if (summaries_left == 0) {
    role = SummaryRole::kKeysOnly;
  } else if (summaries_left < 0 || input.layout.summary_rows() == 0) {
    role = SummaryRole::kBypass;
  }
  const BlockSpec spec = {.layout = input.layout,
                          .whole = WholeLayout(config_, input.layout),
                          .context_method = input.context_method,
                          .window = layer.spec.Window(),
                          .role = role,
                          .mix = input.mix,
                          .rope_table = rope_table_,
                          .head_dim = config_.head_dim,
                          .eps = config_.rms_norm_eps};
  const RowCounts active = {input.layout.text_rows(), role == SummaryRole::kAttend ? input.layout.summary_rows() : 0};
  const auto run = [&layer, spec, active, recompute = input.recompute](const ExecContext& inner, const Residual& in) {
    const Residual attended = AttentionBlock(inner, in, layer.attention, spec, recompute == Recompute::kAttention);
    return MlpBlock(inner, attended, layer.mlp, active, spec.eps, recompute == Recompute::kMlp);
  };
  if (input.recompute != Recompute::kBlock) {
    return run(cx, x);
  }
  // Kept for backward: one tensor, the sum between layers.
  return {Recomputed(
      cx, Sum(cx, x), [run](const ExecContext& inner, const Var& in) { return Sum(inner, run(inner, {in})); })};
}

Var KsaModel::Hidden(const ExecContext& cx, const Input& input) {
  const SummaryLayout& layout = input.layout;
  KSA_CHECK(input.ids.size() == layout.text_rows(), "{} ids for {} text rows", input.ids.size(), layout.text_rows());
  CheckPart(cx, config_, layout);
  KSA_CHECK(layout.total() <= rope_table_.rows(),
            "a sequence of {} tokens, but the model was made for {}",
            layout.total(),
            rope_table_.rows());
  Residual x = {TensorReduce(cx,
                             Embedding(cx,
                                       input.ids,
                                       {.layout = layout,
                                        .table = &store_.Get("model.embed_tokens.weight"),
                                        .summary_table = store_.Find("summary_embedding.weight"),
                                        .vocab_size = config_.vocab_size}),
                             {layout.text_rows(), layout.summary_rows()})};
  const auto trace = [&] {
    if (input.trace != nullptr) {
      x = {Sum(cx, x)};
      input.trace->push_back(x.x);
    }
  };
  trace();
  const auto milestone = [&](size_t layer) {
    if (input.on_gradients) {
      Milestone(cx, [told = input.on_gradients, layer = static_cast<int32_t>(layer)] { told(layer); });
    }
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    milestone(i);
    x = RunLayer(cx, x, i, input);
    trace();
  }
  milestone(layers_.size());
  const int64_t text_rows = HeldRows(cx, {.text = layout.text_rows()}).text;
  const WeightPair norm = {&store_.Get("model.norm.weight"), nullptr};
  return NormOfSum(cx, x, text_rows, norm, text_rows, config_.rms_norm_eps).normed;
}

CrossEntropyResult KsaModel::Loss(
    const ExecContext& cx, const Var& hidden, const Tensor& targets, double grad_scale, Tensor loss_sum) {
  const Var entered = TensorEnter(cx, hidden, {.text = targets.size()});
  return LinearCrossEntropyLoss(cx, entered, *head_, targets, grad_scale, std::move(loss_sum));
}

Tensor KsaModel::Logits(const ExecContext& cx, const Tensor& hidden) {
  Tensor logits = cx.Empty({hidden.rows(), head_->value.rows()}, hidden.dtype());
  Gemm({.a = hidden, .b = head_->value, .c = logits, .transpose_b = true}, cx.stream);
  return logits;
}

}  // namespace ksa
