#include "model/ops/chunk_pool.h"

#include <utility>

#include "kernels/pool/chunk_pool.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

constexpr const char* kOp = "chunk pool";

class ChunkPoolNode final : public Node {
 public:
  ChunkPoolNode(Var gate, std::array<Var, 2> x, std::array<int, 2> out, const ChunkPoolSpec& spec)
      : gate_(std::move(gate)), x_(std::move(x)), out_(out), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return kOp; }

  void Backward(const ExecContext& cx) override {
    std::array<Tensor, 2> dy;
    std::array<Tensor, 2> dx;
    ChunkPoolBackwardArgs args = {
        .gate = gate_.value, .bias = spec_.bias->value, .layout = spec_.layout, .allocator = cx.allocator};
    for (size_t i = 0; i < x_.size() && !x_[i].value.empty(); ++i) {
      dy[i] = cx.tape->TakeGrad(out_[i]);
      if (dy[i].empty()) {
        return;  // attention reads all entries, or none
      }
      dx[i] = cx.Empty(x_[i].value.shape(), x_[i].value.dtype());
      args.x[i] = x_[i].value;
      args.dy[i] = dy[i];
      args.dx[i] = dx[i];
    }
    Tensor dgate = cx.Empty(gate_.value.shape(), gate_.value.dtype());
    args.dgate = dgate;
    const GradientTarget target(*spec_.bias, *cx.allocator);
    args.dbias = target.to;
    args.accumulate = target.accumulate;
    ChunkPoolBackward(args, cx.stream);
    cx.tape->AddGrad(cx, gate_.slot, std::move(dgate));
    for (size_t i = 0; i < x_.size() && !x_[i].value.empty(); ++i) {
      cx.tape->AddGrad(cx, x_[i].slot, std::move(dx[i]));
    }
  }

 private:
  Var gate_;
  std::array<Var, 2> x_;
  std::array<int, 2> out_;
  ChunkPoolSpec spec_;
};

}  // namespace

std::array<Var, 2> ChunkPool(const ExecContext& cx,
                             const Var& gate,
                             const std::array<Var, 2>& x,
                             const ChunkPoolSpec& spec) {
  RequireTensorPlacement(kOp, gate, Placement::Sharded(1));
  RequireGradientPartial(kOp, *spec.bias, false);
  ChunkPoolForwardArgs args = {.gate = gate.value, .bias = spec.bias->value, .layout = spec.layout};
  std::array<Tensor, 2> y;
  for (size_t i = 0; i < x.size() && !x[i].value.empty(); ++i) {
    RequireSamePlacement(kOp, gate, x[i]);
    y[i] = cx.Empty({spec.layout.summary_rows(), gate.cols()}, gate.value.dtype());
    args.x[i] = x[i].value;
    args.y[i] = y[i];
  }
  ChunkPoolForward(args, cx.stream);
  std::array<Var, 2> entries;
  std::array<int, 2> slots = {-1, -1};
  for (size_t i = 0; i < x.size() && !x[i].value.empty(); ++i) {
    entries[i] = Result(cx, std::move(y[i]), gate.placement);
    slots[i] = entries[i].slot;
  }
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<ChunkPoolNode>(gate, x, slots, spec));
  }
  return entries;
}

}  // namespace ksa
