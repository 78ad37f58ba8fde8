#include "model/autograd/recompute.h"

#include <utility>

#include "kernels/core/op.h"

namespace ksa {
namespace {

using Block = std::function<Var(const ExecContext& cx, const Var& x)>;

class RecomputedNode final : public Node {
 public:
  RecomputedNode(Var x, int out, Block block, KeptTensors kept)
      : x_(std::move(x)), out_(out), block_(std::move(block)), kept_(std::move(kept)) {}

  [[nodiscard]] const char* name() const override { return "recomputed block"; }

  void Backward(const ExecContext& cx) override {
    Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    Tape tape;
    kept_.replay = true;
    ExecContext inner = cx;
    inner.tape = &tape;
    inner.kept = &kept_;
    const Var input = Leaf(inner, x_.value, x_.placement);
    MarkStep(cx.stream, StepMark::kReplay);
    const Var output = block_(inner, input);
    MarkStep(cx.stream, StepMark::kReplayed);
    tape.Backward(inner, output, std::move(dy));
    cx.tape->AddGrad(cx, x_.slot, tape.TakeGrad(input.slot));
  }

 private:
  Var x_;
  int out_;
  Block block_;
  KeptTensors kept_;
};

}  // namespace

Var Recomputed(const ExecContext& cx, const Var& x, Block block) {
  if (cx.tape == nullptr) {
    return block(cx, x);
  }
  KeptTensors kept;
  ExecContext inner = cx;
  inner.tape = nullptr;
  inner.kept = &kept;
  const Var output = block(inner, x);
  Var result = Result(cx, output.value, output.placement);
  cx.tape->Record(std::make_unique<RecomputedNode>(x, result.slot, std::move(block), std::move(kept)));
  return result;
}

}  // namespace ksa
