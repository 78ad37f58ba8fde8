#include "model/ops/swiglu.h"

#include <utility>

#include "kernels/activation/swiglu.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

class SwigluNode final : public Node {
 public:
  SwigluNode(Var gate, Var up, int out) : gate_(std::move(gate)), up_(std::move(up)), out_(out) {}

  [[nodiscard]] const char* name() const override { return "SwiGLU"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    Tensor dgate = cx.Empty(gate_.value.shape(), gate_.value.dtype());
    Tensor dup = cx.Empty(up_.value.shape(), up_.value.dtype());
    SwigluBackward({.dy = dy, .gate = gate_.value, .up = up_.value, .dgate = dgate, .dup = dup}, cx.stream);
    cx.tape->AddGrad(cx, gate_.slot, std::move(dgate));
    cx.tape->AddGrad(cx, up_.slot, std::move(dup));
  }

 private:
  Var gate_;
  Var up_;
  int out_;
};

}  // namespace

Var Swiglu(const ExecContext& cx, const Var& gate, const Var& up) {
  RequireNotPartial("SwiGLU", gate);
  RequireSamePlacement("SwiGLU", gate, up);
  Tensor y = cx.Empty(gate.value.shape(), gate.value.dtype());
  SwigluForward({.gate = gate.value, .up = up.value, .y = y}, cx.stream);
  Var out = Result(cx, std::move(y), gate.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<SwigluNode>(gate, up, out.slot));
  }
  return out;
}

}  // namespace ksa
