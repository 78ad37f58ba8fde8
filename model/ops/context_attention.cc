#include "model/ops/context_attention.h"

#include <utility>

#include "kernels/attention/attention.h"
#include "model/autograd/checks.h"
#include "model/ops/attention.h"
#include "model/ops/context_latents.h"
#include "model/ops/context_text.h"
#include "model/ops/heads.h"
#include "parallel/context/slices.h"

namespace ksa {

class ContextKeys {
 public:
  ContextKeys(Var k_var, Var v_var, const ContextTextSpec& text_spec, std::unique_ptr<ContextText> way)
      : k(std::move(k_var)), v(std::move(v_var)), spec(text_spec), text(std::move(way)) {}

  Var k;
  Var v;
  ContextTextSpec spec;
  std::unique_ptr<ContextText> text;
  KeyPair summaries;           // gradients that summary queries left
  bool has_gradients = false;  // backward of the attention has run

  [[nodiscard]] int value_dim() const {
    return spec.expander != nullptr ? spec.expander->value_dim() : ValueDim(k.value, v.value, spec.head_dim);
  }

  // Of this rank's own rows.
  [[nodiscard]] KeyPair Own(const ExecContext& cx) const {
    return spec.expander != nullptr ? spec.expander->Expand(cx, {k.value, v.value}) : KeyPair{k.value, v.value};
  }
};

namespace {

Communicator& ContextGroup(const ExecContext& cx) {
  return cx.mesh->group(MeshAxis::kContext);
}

bool TakesHeads(const ContextAttentionSpec& spec, int64_t heads, int64_t kv_heads, int ranks) {
  const bool divides = heads % ranks == 0 && kv_heads % ranks == 0;
  if (spec.method == ContextMethod::kAuto) {
    const AttentionWindow& w = spec.window;
    return divides && !w.summaries && w.chunks == AttentionWindow::kUnlimited &&
           w.tokens == AttentionWindow::kUnlimited;
  }
  KSA_CHECK(spec.method == ContextMethod::kKeys || divides,
            "{} query and {} key/value heads do not divide among {} context ranks",
            heads,
            kv_heads,
            ranks);
  return spec.method == ContextMethod::kHeads;
}

// The summary rows of q over the rank's own rows; nothing when there are none.
struct SummaryRows {
  explicit SummaryRows(const ContextTextSpec& spec, int64_t q_rows)
      : first(spec.local.text_rows()), count(q_rows - first) {}

  int64_t first;
  int64_t count;

  [[nodiscard]] TensorView Of(const Tensor& x, int head_dim) const { return Heads(x.Rows(first, count), head_dim); }
};

Tensor SummaryForward(const ExecContext& cx, const Var& q, const ContextKeys& keys, const Tensor& out) {
  const int e = keys.spec.head_dim;
  const int c = keys.value_dim();
  const SummaryRows rows(keys.spec, q.rows());
  Tensor lse = cx.Empty({rows.count, q.cols() / e}, AccumulationType(q.value.dtype()));
  if (rows.count > 0) {
    const KeyPair own = keys.Own(cx);
    AttentionForward({.q = rows.Of(q.value, e),
                      .k = Heads(own.k, e),
                      .v = Heads(own.v, c),
                      .out = rows.Of(out, c),
                      .lse = lse,
                      .layout = keys.spec.local,
                      .window = keys.spec.window,
                      .allocator = cx.allocator,
                      .text_queries = false},
                     cx.stream);
  }
  return lse;
}

// What is kept of attention inside a recomputed block.
struct Kept {
  Tensor out;          // [nq_l, h·e]
  Tensor text_lse;     // as the way lays it out
  Tensor summary_lse;  // [summary rows of q, h]
};

class ContextKeysNode final : public Node {
 public:
  explicit ContextKeysNode(std::shared_ptr<ContextKeys> keys) : keys_(std::move(keys)) {}

  [[nodiscard]] const char* name() const override { return "context keys"; }

  void Backward(const ExecContext& cx) override {
    if (!keys_->has_gradients) {
      return;
    }
    KeyPair sums = keys_->text->FinishKeys(cx, {keys_->k.value, keys_->v.value}, std::exchange(keys_->summaries, {}));
    cx.tape->AddGrad(cx, keys_->k.slot, std::move(sums.k));
    cx.tape->AddGrad(cx, keys_->v.slot, std::move(sums.v));
  }

 private:
  std::shared_ptr<ContextKeys> keys_;
};

class ContextAttentionNode final : public Node {
 public:
  ContextAttentionNode(Var q, Var out, Kept kept, std::shared_ptr<ContextKeys> keys)
      : q_(std::move(q)), out_(std::move(out)), kept_(std::move(kept)), keys_(std::move(keys)) {}

  [[nodiscard]] const char* name() const override { return "context attention"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dout = cx.tape->TakeGrad(out_.slot);
    if (dout.empty()) {
      return;
    }
    Tensor dq = cx.Empty(q_.value.shape(), q_.value.dtype());
    const int64_t text_rows = keys_->spec.local.text_rows();
    const ContextTextBackward text = {.q = q_.value.Rows(0, text_rows),
                                      .out = out_.value.Rows(0, text_rows),
                                      .lse = kept_.text_lse,
                                      .dout = dout.Rows(0, text_rows),
                                      .dq = dq.Rows(0, text_rows)};
    keys_->text->StartBackward(cx, text);
    SummaryBackward(cx, dout, dq);
    keys_->text->FinishQueries(cx, text);
    keys_->has_gradients = true;
    cx.tape->AddGrad(cx, q_.slot, std::move(dq));
  }

 private:
  void SummaryBackward(const ExecContext& cx, const Tensor& dout, const Tensor& dq) {
    const int e = keys_->spec.head_dim;
    const int c = keys_->value_dim();
    const SummaryRows rows(keys_->spec, q_.rows());
    if (rows.count == 0) {
      return;
    }
    const KeyPair own = keys_->Own(cx);
    KeyPair left = {cx.Empty(own.k.shape(), own.k.dtype()), cx.Empty(own.v.shape(), own.v.dtype())};
    AttentionBackward({.q = rows.Of(q_.value, e),
                       .k = Heads(own.k, e),
                       .v = Heads(own.v, c),
                       .out = rows.Of(out_.value, c),
                       .lse = kept_.summary_lse,
                       .dout = rows.Of(dout, c),
                       .dq = rows.Of(dq, e),
                       .dk = Heads(left.k, e),
                       .dv = Heads(left.v, c),
                       .layout = keys_->spec.local,
                       .window = keys_->spec.window,
                       .allocator = cx.allocator,
                       .text_queries = false},
                      cx.stream);
    const KeyExpander* expander = keys_->spec.expander.get();
    keys_->summaries = expander == nullptr ? left : expander->Backward(cx, {keys_->k.value, keys_->v.value}, left);
  }

  Var q_;
  Var out_;
  Kept kept_;
  std::shared_ptr<ContextKeys> keys_;
};

Kept Run(const ExecContext& cx, const Var& q, ContextKeys& keys) {
  const int64_t text_rows = keys.spec.local.text_rows();
  Kept result;
  if (cx.kept != nullptr && cx.kept->replay) {
    result.out = cx.kept->Take();
    result.text_lse = cx.kept->Take();
    result.summary_lse = cx.kept->Take();
    keys.text->StartReplay(cx, result.out.Rows(0, text_rows));
    return result;
  }
  result.out = cx.Empty(OutputShape(q.value, keys.spec.head_dim, keys.value_dim()), q.value.dtype());
  // Needs nothing that travels.
  result.summary_lse = SummaryForward(cx, q, keys, result.out);
  result.text_lse = keys.text->Forward(cx, q.value.Rows(0, text_rows), result.out.Rows(0, text_rows));
  NoteLargest(cx, result.summary_lse);
  NoteLargest(cx, result.text_lse);
  if (cx.kept != nullptr) {
    cx.kept->tensors.push_back(result.out);
    cx.kept->tensors.push_back(result.text_lse);
    cx.kept->tensors.push_back(result.summary_lse);
  }
  return result;
}

}  // namespace

bool IsContextParallel(const ExecContext& cx) {
  return cx.mesh != nullptr && cx.mesh->Size(MeshAxis::kContext) > 1;
}

namespace {

ContextTextSpec TextSpec(const ExecContext& cx, const ContextAttentionSpec& spec) {
  Communicator& group = ContextGroup(cx);
  return {.whole = spec.whole,
          .local = MakeLocalLayout(spec.whole, group.size(), group.rank()),
          .window = spec.window,
          .head_dim = spec.head_dim,
          .group = &group};
}

std::shared_ptr<ContextKeys> Start(
    const ExecContext& cx, const Var& k, const Var& v, const ContextTextSpec& text, bool by_heads) {
  auto keys =
      std::make_shared<ContextKeys>(k, v, text, by_heads ? MakeContextTextByHeads(text) : MakeContextTextByKeys(text));
  keys->text->StartKeys(cx, {k.value, v.value});
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<ContextKeysNode>(keys));
  }
  return keys;
}

}  // namespace

std::shared_ptr<ContextKeys> StartContextKeys(
    const ExecContext& cx, const Var& k, const Var& v, int64_t heads, const ContextAttentionSpec& spec) {
  RequireTensorPlacement("context keys", k, Placement::Sharded(1));
  RequireSamePlacement("context keys", k, v);
  const ContextTextSpec text = TextSpec(cx, spec);
  return Start(cx, k, v, text, TakesHeads(spec, heads, k.cols() / spec.head_dim, text.group->size()));
}

std::shared_ptr<ContextKeys> StartContextLatents(const ExecContext& cx,
                                                 const Var& small_k,
                                                 const Var& small_v,
                                                 std::shared_ptr<const KeyExpander> expander,
                                                 const ContextAttentionSpec& spec) {
  RequireTensorPlacement("context latents", small_k, Placement::Entered());
  RequireSamePlacement("context latents", small_k, small_v);
  ContextTextSpec text = TextSpec(cx, spec);
  text.expander = std::move(expander);
  return Start(cx, small_k, small_v, text, false);
}

Var ContextAttention(const ExecContext& cx, const Var& q, const std::shared_ptr<ContextKeys>& keys) {
  RequireTensorPlacement("context attention", q, Placement::Sharded(1));
  if (keys->spec.expander == nullptr) {
    RequireSamePlacement("context attention", q, keys->k);
  }
  keys->text->StartQueries(cx, q.value.Rows(0, keys->spec.local.text_rows()));
  Kept kept = Run(cx, q, *keys);
  Var result = Result(cx, kept.out, q.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<ContextAttentionNode>(q, result, std::move(kept), keys));
  }
  return result;
}

}  // namespace ksa
