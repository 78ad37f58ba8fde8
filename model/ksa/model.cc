#include "model/ksa/model.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/copy/column_block.h"
#include "kernels/gemm/gemm.h"
#include "model/autograd/milestone.h"
#include "model/autograd/recompute.h"
#include "model/ksa/parameters.h"
#include "model/ops/collectives.h"
#include "model/ops/embedding.h"
#include "model/ops/rows.h"
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
    : config_(config),
      store_(store),
      ropes_(positions, config.rope_theta, store.state_dtype(), allocator, stream),
      head_(&store.Get(config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight")) {
  if (const std::string problem = config.GpuProblem(); !stream.device.IsCpu() && !stream.dry && !problem.empty()) {
    Fail(ExitCode::kConfig, "{}", problem);
  }
  for (int32_t i = 0; i < config_.num_hidden_layers; ++i) {
    const LayerParameters parameters(store_, LayerPrefix(i));
    Layer layer;
    layer.norm = parameters.Pair("input_layernorm.weight", "input_layernorm_summary.weight");
    const Mixer& mixer = *config_.layers[static_cast<size_t>(i)];
    layer.mixer = mixer.Bind(config_, parameters, ropes_);
    if (const std::optional<LayerSpec> teacher = mixer.Teacher()) {
      layer.teacher = (*teacher)->Bind(config_, parameters, ropes_);
    }
    layer.summaries_attend = config_.SummariesAttend(i);
    if (config_.intermediate_size > 0) {
      layer.mlp = {parameters.Get("post_attention_layernorm.weight"),
                   parameters.Get("mlp.gate_proj.weight"),
                   parameters.Get("mlp.up_proj.weight"),
                   parameters.Get("mlp.down_proj.weight")};
    }
    layers_.push_back(std::move(layer));
  }
}

SummaryRole KsaModel::RoleOf(size_t index, const SummaryLayout& layout) const {
  const int32_t summaries_left = config_.LastKsaLayer() - static_cast<int32_t>(index);  // layers that have them
  if (summaries_left == 0) {
    return SummaryRole::kKeysOnly;
  }
  const bool here = summaries_left > 0 && layout.summary_rows() > 0;
  return here && layers_[index].summaries_attend ? SummaryRole::kAttend : SummaryRole::kBypass;
}

// The teacher's residual stream: text rows, nothing of which is recorded.
class KsaModel::Teacher {
 public:
  // `embedded`: the student's first rows, of which the text's are the teacher's too.
  Teacher(KsaModel& model, ExecContext cx, const Input& input, const Var& embedded)
      : model_(model), cx_(std::move(cx)), teaching_(*input.teaching), layout_(WithoutSummaries(input.layout)) {
    cx_.tape = nullptr;
    cx_.kept = nullptr;
    cx_.largest_attention = {};
    if (IsContextParallel(cx_)) {
      layout_ = MakeLocalLayout(Whole(), cx_.mesh->Size(MeshAxis::kContext), cx_.mesh->Rank(MeshAxis::kContext));
      KSA_CHECK(layout_.text_rows() == input.layout.text_rows(), "teacher and student hold different text");
    }
    x_ = {Rows(cx_, embedded, 0, HeldRows(cx_, {.text = layout_.text_rows()}).text)};
  }

  // Runs a layer, whose attention output is the student's target where summary rows attend; else null.
  [[nodiscard]] std::shared_ptr<AttentionTarget> Run(size_t index) {
    const Layer& layer = model_.layers_[index];
    KSA_CHECK(layer.teacher != nullptr, "layer {} has no teacher", index);
    const double eps = model_.config_.rms_norm_eps;
    const MixerCall call = {.layout = layout_, .whole = Whole(), .role = SummaryRole::kBypass, .mix = 0.0};
    x_ = MixerBlock(cx_, x_, layer.norm, *layer.teacher, call, eps, PartRecompute::kNone);
    const Tensor out = x_.delta.value;
    if (layer.mlp.norm != nullptr) {
      x_ = MlpBlock(cx_, x_, layer.mlp, call.RowsOut(), eps, PartRecompute::kNone);
    }
    if (!layer.summaries_attend) {
      return nullptr;
    }
    if (teaching_.trace != nullptr) {
      teaching_.trace->push_back(out);
    }
    return std::make_shared<AttentionTarget>(AttentionTarget{out, teaching_.scale, teaching_.normalize, teaching_.sum});
  }

  void Finish() { teaching_.hidden = model_.Final(cx_, x_, layout_).value; }

 private:
  static SummaryLayout WithoutSummaries(SummaryLayout layout) {
    layout.summary_tokens = 0;
    layout.live_chunks = 0;
    layout.text_positions = TextPositions::kOrigin;
    return layout;
  }

  [[nodiscard]] SummaryLayout Whole() const { return WithoutSummaries(WholeLayout(model_.config_, layout_)); }

  KsaModel& model_;
  ExecContext cx_;
  Teaching& teaching_;
  SummaryLayout layout_;
  Residual x_;
};

Residual KsaModel::RunLayer(const ExecContext& cx,
                            const Residual& x,
                            size_t index,
                            const Input& input,
                            const std::shared_ptr<AttentionTarget>& target) {
  const Layer& layer = layers_[index];
  const MixerCall call = {.layout = input.layout,
                          .whole = WholeLayout(config_, input.layout),
                          .context_method = input.context_method,
                          .role = RoleOf(index, input.layout),
                          .mix = input.mix,
                          .target = target,
                          .cache = input.caches == nullptr ? nullptr : (*input.caches)[index].get(),
                          .slot = input.slot,
                          .step = input.step};
  const bool has_mlp = layer.mlp.norm != nullptr;
  const auto part_of = [recompute = input.recompute](Recompute part, bool is_last) {
    return recompute == part                           ? PartRecompute::kPart
           : recompute == Recompute::kBlock && is_last ? PartRecompute::kEndOfBlock
                                                       : PartRecompute::kNone;
  };
  const PartRecompute mixer_part = part_of(Recompute::kAttention, !has_mlp);
  const PartRecompute mlp_part = part_of(Recompute::kMlp, true);
  const auto run = [&layer, call, has_mlp, mixer_part, mlp_part, eps = config_.rms_norm_eps](const ExecContext& inner,
                                                                                             const Residual& in) {
    const Residual mixed = MixerBlock(inner, in, layer.norm, *layer.mixer, call, eps, mixer_part);
    return has_mlp ? MlpBlock(inner, mixed, layer.mlp, call.RowsOut(), eps, mlp_part) : mixed;
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
  KSA_CHECK(input.step != nullptr || layout.total() <= ropes_.positions(),
            "a sequence of {} tokens, but the model was made for {}",
            layout.total(),
            ropes_.positions());
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
  std::optional<Teacher> teacher;
  if (input.teaching != nullptr) {
    teacher.emplace(*this, cx, input, x.x);
  }
  const auto milestone = [&](size_t layer) {
    if (input.on_gradients) {
      Milestone(cx, [told = input.on_gradients, layer = static_cast<int32_t>(layer)] { told(layer); });
    }
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::shared_ptr<AttentionTarget> target = teacher ? teacher->Run(i) : nullptr;
    milestone(i);
    x = RunLayer(cx, x, i, input, target);
    if (target != nullptr) {
      target->teacher = Tensor();  // a block that runs again holds the target
    }
    trace();
  }
  if (teacher) {
    teacher->Finish();
  }
  milestone(layers_.size());
  return Final(cx, x, layout);
}

Var KsaModel::Final(const ExecContext& cx, const Residual& x, const SummaryLayout& layout) {
  const int64_t text_rows = HeldRows(cx, {.text = layout.text_rows()}).text;
  const WeightPair norm = {&store_.Get("model.norm.weight"), nullptr};
  return NormOfSum(cx, x, text_rows, norm, text_rows, config_.rms_norm_eps).normed;
}

CrossEntropyResult KsaModel::Loss(
    const ExecContext& cx, const Var& hidden, const Targets& targets, double grad_scale, Tensor loss_sum) {
  return Loss(cx, hidden, targets, LossOptions{.grad_scale = grad_scale, .loss_sum = std::move(loss_sum)});
}

CrossEntropyResult KsaModel::Loss(const ExecContext& cx,
                                  const Var& hidden,
                                  const Targets& targets,
                                  LossOptions options) {
  const auto rows_of = [&](const ExecContext& where, const Var& x) {
    const Var entered = TensorEnter(where, x, {.text = targets.text_rows});
    return targets.rows.empty() ? entered : SelectRows(where, entered, targets.rows, targets.first_row);
  };
  if (!options.teacher.empty()) {
    ExecContext alone = cx;
    alone.tape = nullptr;
    options.teacher = rows_of(alone, {options.teacher, hidden.placement}).value;
  }
  options.margins = targets.margins;
  options.most_rows = targets.text_rows;
  return LinearCrossEntropyLoss(cx, rows_of(cx, hidden), *head_, targets.ids, std::move(options));
}

std::string KsaModel::WhyNoCaches(const ExecContext& cx) const {
  const auto caches = MakeCaches(cx, 1, 1);
  for (size_t i = 0; i < caches.size(); ++i) {
    if (caches[i] == nullptr) {
      return fmt::format("layer {} ({}) has no cache for decoding {}yet",
                         i,
                         config_.layers[i]->kind().name(),
                         cx.stream.device.IsCpu() ? "" : "on GPUs ");
    }
  }
  return {};
}

std::vector<std::unique_ptr<LayerCache>> KsaModel::MakeCaches(const ExecContext& cx,
                                                              int32_t slots,
                                                              int32_t tokens) const {
  KSA_CHECK(!IsContextParallel(cx), "caches of sequences that are spread over context ranks");
  std::vector<std::unique_ptr<LayerCache>> caches;
  for (size_t i = 0; i < layers_.size(); ++i) {
    caches.push_back(layers_[i].mixer->MakeCache(cx,
                                                 {.slots = slots,
                                                  .tokens = tokens,
                                                  .chunk_size = config_.ChunkSize(),
                                                  .summary_tokens = config_.SummaryTokens(),
                                                  .summaries_attend = layers_[i].summaries_attend,
                                                  .dtype = store_.compute_dtype()}));
  }
  return caches;
}

Tensor KsaModel::Logits(const ExecContext& cx, const Tensor& hidden) {
  const int64_t n = hidden.rows();
  const int64_t vocabulary = head_->spec.shape[0];
  const int64_t own = head_->value.rows();
  if (own == vocabulary) {
    Tensor logits = cx.Empty({n, own}, hidden.dtype());
    Gemm({.a = hidden, .b = head_->value, .c = logits, .transpose_b = true}, cx.stream);
    return logits;
  }
  // Each tensor rank has its part of the columns. Parts are gathered one behind the other.
  Communicator& group = cx.mesh->group(MeshAxis::kTensor);
  std::vector<int64_t> sizes;
  for (int rank = 0; rank < group.size(); ++rank) {
    sizes.push_back(n * EvenPart(vocabulary, group.size(), rank).size());
  }
  const Tensor parts = cx.Empty({n * vocabulary}, hidden.dtype());
  const Tensor mine = parts.Rows(n * head_->shard_begin, n * own).Reshape({n, own});
  Gemm({.a = hidden, .b = head_->value, .c = mine, .transpose_b = true}, cx.stream);
  group.AllGatherV("Logits", parts, sizes, cx.stream);
  Tensor logits = cx.Empty({n, vocabulary}, hidden.dtype());
  for (int rank = 0; rank < group.size(); ++rank) {
    const EvenPart part(vocabulary, group.size(), rank);
    const TensorView of_rank = parts.view().Rows(n * part.begin, n * part.size()).Reshape({n, part.size()});
    CopyBlock({of_rank, 0, part.size()}, {logits, part.begin, part.size()}, cx.stream);
  }
  return logits;
}

}  // namespace ksa
