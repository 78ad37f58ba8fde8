#include "model/ops/delta_rule.h"

#include <memory>
#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/delta_rule/delta_gates.h"
#include "kernels/delta_rule/gated_delta_rule.h"
#include "kernels/delta_rule/gated_norm.h"
#include "kernels/delta_rule/l2_norm.h"
#include "model/autograd/checks.h"
#include "model/ops/context_attention.h"
#include "model/ops/heads.h"
#include "parallel/context/slices.h"

namespace ksa {
namespace {

constexpr const char* kOp = "gated delta rule";

// What the rule reads, made of the operation's inputs; the same in forward and backward.
struct RuleInputs {
  Tensor q;     // [n, hk·dk], of length 1
  Tensor k;     // [n, hk·dk], of length 1
  Tensor g;     // [n, hv]
  Tensor beta;  // [n, hv]
};

// The states of all slices of all context ranks: by rank, then as the rank numbers its own. Tensor [P·L, hv, ...].
class StatesOverRanks {
 public:
  StatesOverRanks(const ExecContext& cx, const GatedDeltaSpec& spec, int64_t heads)
      : cx_(cx), group_(cx.mesh->group(MeshAxis::kContext)), layout_(spec.layout), heads_(heads) {}

  // A tensor of all ranks' slices, [rows, columns] each head, of which this rank writes Own.
  [[nodiscard]] Tensor Empty(int64_t rows, int64_t columns, DType dtype) const {
    return cx_.Empty({group_.size() * SliceCount(layout_), heads_, rows, columns}, dtype);
  }

  [[nodiscard]] TensorView Own(const Tensor& all) const {
    return all.Rows(group_.rank() * SliceCount(layout_), SliceCount(layout_));
  }

  void Gather(const char* op, const Tensor& all) const { group_.AllGather(op, all, cx_.stream); }

  // What comes into each of this rank's slices: zeros into a sequence's first, and from each slice to the next
  // transition · state + added. `backward`: gradients, which come into the last slice first, through the transposed
  // transitions.
  [[nodiscard]] Tensor Fold(const Tensor& transitions, const Tensor& added, bool backward) const {
    const Tensor own = cx_.Empty(added.shape().WithRows(SliceCount(layout_)), added.dtype());
    const Shape shape = {heads_, added.shape()[2], added.shape()[3]};
    Tensor state = cx_.Empty(shape, added.dtype());
    Tensor next = cx_.Empty(shape, added.dtype());
    const int slices = 2 * group_.size();
    for (int32_t sequence = 0; sequence < layout_.sequences; ++sequence) {
      Zero(state, cx_.stream);
      for (int step = 0; step < slices; ++step) {
        const int slice = backward ? slices - 1 - step : step;
        const int rank = slice < group_.size() ? slice : slices - 1 - slice;
        const int64_t local = 2 * sequence + (slice < group_.size() ? 0 : 1);
        if (rank == group_.rank()) {
          Copy(state, OneOf(own, local), cx_.stream);
        }
        const int64_t at = rank * SliceCount(layout_) + local;
        DeltaStateStep({.transition = OneOf(transitions, at),
                        .state = state,
                        .add = OneOf(added, at),
                        .out = next,
                        .transposed = backward},
                       cx_.stream);
        std::swap(state, next);
      }
    }
    return own;
  }

 private:
  // The heads of one slice.
  [[nodiscard]] static TensorView OneOf(const Tensor& all, int64_t index) {
    const Shape& shape = all.shape();
    return all.Rows(index, 1).Reshape({shape[1], shape[2], shape[3]});
  }

  const ExecContext& cx_;
  Communicator& group_;
  const SummaryLayout& layout_;
  int64_t heads_;
};

class GatedDeltaNode final : public Node {
 public:
  struct Inputs {
    Var q, k, v, a, b;
  };

  GatedDeltaNode(Inputs in, const GatedDeltaSpec& spec) : in_(std::move(in)), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return kOp; }

  [[nodiscard]] Tensor Forward(const ExecContext& cx) {
    const RuleInputs rule = Prepare(cx);
    Tensor out = cx.Empty(in_.v.value.shape(), in_.v.value.dtype());
    GatedDeltaRuleForwardArgs args = ForwardArgs(cx, rule);
    if (IsContextParallel(cx)) {
      const StatesOverRanks states(cx, spec_, in_.a.cols());
      const DType exact = rule.g.dtype();
      transitions_ = states.Empty(spec_.key_dim, spec_.key_dim, exact);
      GatedDeltaRuleTransition({.k = args.k,
                                .g = args.g,
                                .beta = args.beta,
                                .transition = states.Own(transitions_),
                                .layout = spec_.layout,
                                .allocator = cx.allocator},
                               cx.stream);
      const Tensor written = states.Empty(spec_.key_dim, spec_.value_dim, exact);
      args.final_state = states.Own(written);
      GatedDeltaRuleForward(args, cx.stream);
      states.Gather("delta rule transitions", transitions_);
      states.Gather("delta rule states", written);
      initial_ = states.Fold(transitions_, written, false);
      args.initial_state = initial_;
      args.final_state = {};
    } else {
      args.initial_state = spec_.initial_state;
      args.final_state = spec_.final_state;
    }
    args.out = Heads(out, spec_.value_dim);
    GatedDeltaRuleForward(args, cx.stream);
    return out;
  }

  void SetOut(int slot) { out_ = slot; }

  void Backward(const ExecContext& cx) override {
    const Tensor dout = cx.tape->TakeGrad(out_);
    if (dout.empty()) {
      return;
    }
    const RuleInputs rule = Prepare(cx);
    const auto like = [&](const Var& x) { return cx.Empty(x.value.shape(), x.value.dtype()); };
    Tensor dq = like(in_.q);
    Tensor dk = like(in_.k);
    Tensor dv = like(in_.v);
    const Tensor dg = cx.Empty(rule.g.shape(), rule.g.dtype());
    const Tensor dbeta = cx.Empty(rule.g.shape(), rule.g.dtype());
    GatedDeltaRuleBackwardArgs args = {.q = Heads(rule.q, spec_.key_dim),
                                       .k = Heads(rule.k, spec_.key_dim),
                                       .v = Heads(in_.v.value, spec_.value_dim),
                                       .g = rule.g,
                                       .beta = rule.beta,
                                       .initial_state = initial_,
                                       .dout = Heads(dout, spec_.value_dim),
                                       .layout = spec_.layout,
                                       .allocator = cx.allocator};
    Tensor dfinal;
    if (IsContextParallel(cx)) {
      const StatesOverRanks states(cx, spec_, in_.a.cols());
      const Tensor left = states.Empty(spec_.key_dim, spec_.value_dim, rule.g.dtype());
      args.dinitial_state = states.Own(left);
      GatedDeltaRuleBackward(args, cx.stream);
      states.Gather("delta rule state gradients", left);
      dfinal = states.Fold(transitions_, left, true);
      args.dinitial_state = {};
      args.dfinal_state = dfinal;
    }
    args.dq = Heads(dq, spec_.key_dim);
    args.dk = Heads(dk, spec_.key_dim);
    args.dv = Heads(dv, spec_.value_dim);
    args.dg = dg;
    args.dbeta = dbeta;
    GatedDeltaRuleBackward(args, cx.stream);
    BackwardInputs(cx, std::move(dq), std::move(dk), dg, dbeta);
    cx.tape->AddGrad(cx, in_.v.slot, std::move(dv));
  }

 private:
  [[nodiscard]] RuleInputs Prepare(const ExecContext& cx) const {
    const DType exact = AccumulationType(in_.q.value.dtype());
    RuleInputs rule = {cx.Empty(in_.q.value.shape(), in_.q.value.dtype()),
                       cx.Empty(in_.k.value.shape(), in_.k.value.dtype()),
                       cx.Empty(in_.a.value.shape(), exact),
                       cx.Empty(in_.a.value.shape(), exact)};
    L2NormForward({.x = Heads(in_.q.value, spec_.key_dim), .y = Heads(rule.q, spec_.key_dim)}, cx.stream);
    L2NormForward({.x = Heads(in_.k.value, spec_.key_dim), .y = Heads(rule.k, spec_.key_dim)}, cx.stream);
    DeltaGatesForward({.a = in_.a.value,
                       .b = in_.b.value,
                       .a_log = spec_.a_log->value,
                       .dt_bias = spec_.dt_bias->value,
                       .g = rule.g,
                       .beta = rule.beta,
                       .most = spec_.most_write},
                      cx.stream);
    return rule;
  }

  [[nodiscard]] GatedDeltaRuleForwardArgs ForwardArgs(const ExecContext& cx, const RuleInputs& rule) const {
    return {.q = Heads(rule.q, spec_.key_dim),
            .k = Heads(rule.k, spec_.key_dim),
            .v = Heads(in_.v.value, spec_.value_dim),
            .g = rule.g,
            .beta = rule.beta,
            .layout = spec_.layout,
            .allocator = cx.allocator};
  }

  // From the gradients of what Prepare made.
  void BackwardInputs(const ExecContext& cx, Tensor dq, Tensor dk, const Tensor& dg, const Tensor& dbeta) {
    const auto length = [&](const Var& x, const Tensor& dx) {
      const TensorView heads = Heads(dx, spec_.key_dim);
      L2NormBackward({.x = Heads(x.value, spec_.key_dim), .dy = heads, .dx = heads}, cx.stream);
    };
    length(in_.q, dq);
    length(in_.k, dk);
    Tensor da = cx.Empty(in_.a.value.shape(), in_.a.value.dtype());
    Tensor db = cx.Empty(in_.b.value.shape(), in_.b.value.dtype());
    const GradientTarget a_log(*spec_.a_log, *cx.allocator);
    const GradientTarget dt_bias(*spec_.dt_bias, *cx.allocator);
    DeltaGatesBackward({.a = in_.a.value,
                        .b = in_.b.value,
                        .a_log = spec_.a_log->value,
                        .dt_bias = spec_.dt_bias->value,
                        .dg = dg,
                        .dbeta = dbeta,
                        .da = da,
                        .db = db,
                        .da_log = a_log.to,
                        .ddt_bias = dt_bias.to,
                        .most = spec_.most_write,
                        .accumulate_a_log = a_log.accumulate,
                        .accumulate_dt_bias = dt_bias.accumulate,
                        .allocator = cx.allocator},
                       cx.stream);
    cx.tape->AddGrad(cx, in_.q.slot, std::move(dq));
    cx.tape->AddGrad(cx, in_.k.slot, std::move(dk));
    cx.tape->AddGrad(cx, in_.a.slot, std::move(da));
    cx.tape->AddGrad(cx, in_.b.slot, std::move(db));
  }

  Inputs in_;
  GatedDeltaSpec spec_;
  int out_ = -1;
  Tensor transitions_;  // of all ranks' slices
  Tensor initial_;      // of this rank's slices
};

class GatedNormNode final : public Node {
 public:
  GatedNormNode(Var x, Var z, int out, Parameter& weight, double eps)
      : x_(std::move(x)), z_(std::move(z)), out_(out), weight_(weight), eps_(eps) {}

  [[nodiscard]] const char* name() const override { return "gated norm"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    const auto e = static_cast<int>(weight_.value.size());
    Tensor dx = cx.Empty(x_.value.shape(), x_.value.dtype());
    Tensor dz = cx.Empty(x_.value.shape(), x_.value.dtype());
    const GradientTarget target(weight_, *cx.allocator);
    GatedNormBackward({.x = Heads(x_.value, e),
                       .z = Heads(z_.value, e),
                       .weight = weight_.value,
                       .dy = Heads(dy, e),
                       .dx = Heads(dx, e),
                       .dz = Heads(dz, e),
                       .dweight = target.to,
                       .eps = eps_,
                       .accumulate = target.accumulate,
                       .allocator = cx.allocator},
                      cx.stream);
    cx.tape->AddGrad(cx, x_.slot, std::move(dx));
    cx.tape->AddGrad(cx, z_.slot, std::move(dz));
  }

 private:
  Var x_;
  Var z_;
  int out_;
  Parameter& weight_;
  double eps_;
};

}  // namespace

Var GatedDelta(const ExecContext& cx,
               const Var& q,
               const Var& k,
               const Var& v,
               const Var& a,
               const Var& b,
               const GatedDeltaSpec& spec) {
  for (const Var* x : {&q, &k, &v, &a, &b}) {
    RequireTensorPlacement(kOp, *x, Placement::Sharded(1));
    KSA_CHECK(x->rows() == spec.layout.text_rows(), "{} rows of {} text rows", x->rows(), spec.layout.text_rows());
  }
  KSA_CHECK(v.cols() == a.cols() * spec.value_dim && b.cols() == a.cols(),
            "{} columns of values of {}, and {} and {} gates",
            v.cols(),
            spec.value_dim,
            a.cols(),
            b.cols());
  auto node = std::make_unique<GatedDeltaNode>(GatedDeltaNode::Inputs{q, k, v, a, b}, spec);
  Tensor value = node->Forward(cx);
  Var out = Result(cx, std::move(value), q.placement);
  if (cx.tape != nullptr) {
    node->SetOut(out.slot);
    cx.tape->Record(std::move(node));
  }
  return out;
}

Var GatedNorm(const ExecContext& cx, const Var& x, const Var& z, Parameter& weight, double eps) {
  constexpr const char* kNorm = "gated norm";
  RequireTensorPlacement(kNorm, x, Placement::Sharded(1));
  RequireSamePlacement(kNorm, x, z);
  RequireGradientPartial(kNorm, weight, true);
  const auto e = static_cast<int>(weight.value.size());
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype());
  GatedNormForward(
      {.x = Heads(x.value, e), .z = Heads(z.value, e), .weight = weight.value, .y = Heads(y, e), .eps = eps},
      cx.stream);
  Var out = Result(cx, std::move(y), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<GatedNormNode>(x, z, out.slot, weight, eps));
  }
  return out;
}

}  // namespace ksa
