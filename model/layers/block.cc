#include "model/layers/block.h"

#include "model/autograd/recompute.h"
#include "model/ops/collectives.h"
#include "model/ops/parallel_linear.h"
#include "model/ops/rows.h"
#include "model/ops/swiglu.h"

namespace ksa {
namespace {

// Nobody reads the last product of what runs again for its backward alone.
bool IsUnread(const ExecContext& cx, PartRecompute recompute) {
  return recompute != PartRecompute::kNone && RunsAgain(cx);
}

Var MlpHidden(const ExecContext& cx, const Var& normed, const MlpWeights& weights, const RowCounts& rows) {
  const ProductSpec products[] = {{weights.gate, nullptr, rows.total()}, {weights.up, nullptr, rows.total()}};
  const EnteredProducts in = EnterLinear(cx, normed, rows, products);
  return Swiglu(cx, in.products[0], in.products[1]);
}

// `part` now, or again in backward.
template <typename Part>
Var Run(const ExecContext& cx, const Var& x, PartRecompute recompute, const Part& part) {
  return recompute == PartRecompute::kPart ? Recomputed(cx, x, part) : part(cx, x);
}

}  // namespace

Var Sum(const ExecContext& cx, const Residual& in) {
  return in.delta.value.empty() ? in.x : AddRows(cx, in.x, in.delta);
}

NormedSum NormOfSum(const ExecContext& cx,
                    const Residual& in,
                    int64_t active_rows,
                    const WeightPair& weight,
                    int64_t split,
                    double eps) {
  Parameter* summary = active_rows > split ? weight.summary : nullptr;
  const int64_t rows = in.x.rows();
  if (!in.delta.value.empty() && in.delta.rows() == rows && active_rows == rows) {
    return AddRmsNorm(cx, in.x, in.delta, split, *weight.text, summary, eps);
  }
  const Var sum = Sum(cx, in);
  return {sum, RmsNorm(cx, Rows(cx, sum, 0, active_rows), split, *weight.text, summary, eps)};
}

Residual MixerBlock(const ExecContext& cx,
                    const Residual& in,
                    const WeightPair& norm,
                    const BoundMixer& mixer,
                    const MixerCall& call,
                    double eps,
                    PartRecompute recompute) {
  const RowCounts held = HeldRows(cx, call.RowsIn());
  const NormedSum normed = NormOfSum(cx, in, held.total(), norm, held.text, eps);
  const auto part = [&mixer, call, recompute](const ExecContext& inner, const Var& x) {
    MixerCall here = call;
    here.unread = IsUnread(inner, recompute);
    return mixer.Forward(inner, x, here);
  };
  Var delta = Run(cx, normed.normed, recompute, part);
  if (call.target != nullptr) {
    delta = PullToTeacher(cx, delta, *call.target);
  }
  return {call.role == SummaryRole::kKeysOnly ? Rows(cx, normed.sum, 0, held.text) : normed.sum, delta};
}

Residual MlpBlock(const ExecContext& cx,
                  const Residual& in,
                  const MlpWeights& weights,
                  const RowCounts& active,
                  double eps,
                  PartRecompute recompute) {
  const int64_t rows = HeldRows(cx, active).total();
  const NormedSum norm = NormOfSum(cx, in, rows, {weights.norm, nullptr}, rows, eps);
  const auto part = [weights, active, recompute](const ExecContext& inner, const Var& x) {
    return LinearReduce(inner, MlpHidden(inner, x, weights, active), active, *weights.down, IsUnread(inner, recompute));
  };
  return {norm.sum, Run(cx, norm.normed, recompute, part)};
}

}  // namespace ksa
