#include "model/ops/attention.h"

#include <utility>

#include "kernels/attention/attention.h"
#include "kernels/copy/elementwise.h"
#include "model/autograd/checks.h"
#include "model/ops/heads.h"

namespace ksa {
namespace {

class AttentionNode final : public Node {
 public:
  AttentionNode(Var q, Var k, Var v, Var out, Tensor lse, const AttentionSpec& spec)
      : q_(std::move(q)), k_(std::move(k)), v_(std::move(v)), out_(std::move(out)), lse_(std::move(lse)), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return "attention"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dout = cx.tape->TakeGrad(out_.slot);
    if (dout.empty()) {
      return;
    }
    Tensor dq = cx.Empty(q_.value.shape(), q_.value.dtype());
    Tensor dk = cx.Empty(k_.value.shape(), k_.value.dtype());
    Tensor dv = cx.Empty(v_.value.shape(), v_.value.dtype());
    const int e = spec_.head_dim;
    const int c = ValueDim(k_.value, v_.value, e);
    AttentionBackward({.q = Heads(q_.value, e),
                       .k = Heads(k_.value, e),
                       .v = Heads(v_.value, c),
                       .out = Heads(out_.value, c),
                       .lse = lse_,
                       .dout = Heads(dout, c),
                       .dq = Heads(dq, e),
                       .dk = Heads(dk, e),
                       .dv = Heads(dv, c),
                       .layout = spec_.layout,
                       .window = spec_.window,
                       .allocator = cx.allocator},
                      cx.stream);
    cx.tape->AddGrad(cx, q_.slot, std::move(dq));
    cx.tape->AddGrad(cx, k_.slot, std::move(dk));
    cx.tape->AddGrad(cx, v_.slot, std::move(dv));
  }

 private:
  Var q_;
  Var k_;
  Var v_;
  Var out_;
  Tensor lse_;  // [nq, h]
  AttentionSpec spec_;
};

}  // namespace

void NoteLargest(const ExecContext& cx, const TensorView& lse) {
  if (!cx.largest_attention.empty()) {
    RaiseToLargest(lse, cx.largest_attention, cx.stream);
  }
}

Var Attention(const ExecContext& cx, const Var& q, const Var& k, const Var& v, const AttentionSpec& spec) {
  KSA_CHECK(cx.mesh == nullptr || cx.mesh->Size(MeshAxis::kContext) == 1,
            "attention: sequences are spread over {} context ranks",
            cx.mesh->Size(MeshAxis::kContext));
  RequireTensorPlacement("attention", q, Placement::Sharded(1));
  RequireSamePlacement("attention", q, k);
  RequireSamePlacement("attention", q, v);
  const int e = spec.head_dim;
  const int c = ValueDim(k.value, v.value, e);
  Tensor out;
  Tensor lse;
  if (cx.kept != nullptr && cx.kept->replay) {
    out = cx.kept->Take();
    lse = cx.kept->Take();
  } else {
    out = cx.Empty(OutputShape(q.value, e, c), q.value.dtype());
    lse = cx.Empty({q.rows(), q.cols() / e}, AccumulationType(q.value.dtype()));
    AttentionForward({.q = Heads(q.value, e),
                      .k = Heads(k.value, e),
                      .v = Heads(v.value, c),
                      .out = Heads(out, c),
                      .lse = lse,
                      .layout = spec.layout,
                      .window = spec.window,
                      .allocator = cx.allocator},
                     cx.stream);
    NoteLargest(cx, lse);
    if (cx.kept != nullptr) {
      cx.kept->tensors.push_back(out);
      cx.kept->tensors.push_back(lse);
    }
  }
  Var result = Result(cx, std::move(out), q.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<AttentionNode>(q, k, v, result, std::move(lse), spec));
  }
  return result;
}

}  // namespace ksa
