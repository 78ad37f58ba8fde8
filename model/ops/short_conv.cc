#include "model/ops/short_conv.h"

#include <utility>
#include <vector>

#include "kernels/copy/elementwise.h"
#include "kernels/short_conv/conv_rows.h"
#include "model/autograd/checks.h"
#include "model/ops/context_attention.h"
#include "parallel/context/halo_plan.h"

namespace ksa {
namespace {

constexpr const char* kOp = "short convolution";

// The rows before the runs of this rank, and what this rank's rows are to others.
class Halo {
 public:
  Halo(const ExecContext& cx, const ShortConvSpec& spec)
      : group_(cx.mesh->group(MeshAxis::kContext)),
        rows_{spec.layout, static_cast<int32_t>(spec.weight->value.shape[2]) - 1},
        plan_(PlanHalo(spec.whole, rows_.reach, group_.size(), group_.rank())) {}

  // They arrive.
  [[nodiscard]] Tensor Fetch(const ExecContext& cx, const TensorView& x) const {
    Tensor halo = cx.Empty({rows_.halo_rows(), x.cols()}, x.dtype);
    Zero(halo, cx.stream);  // before the first token there is nothing
    std::vector<Message> sends;
    std::vector<Message> receives;
    for (int32_t q = 0; q < rows_.layout.sequences; ++q) {
      for (const HaloPiece& piece : plan_.sends) {
        sends.push_back({piece.peer, OwnRows(x, q, piece)});
      }
      for (const HaloPiece& piece : plan_.receives) {
        receives.push_back({piece.peer, RowsOf(halo, q, piece)});
      }
    }
    group_.Exchange("short convolution halo", sends, receives, cx.stream);
    return halo;
  }

  // Their gradients go back, and those of own rows are added to dx: by sequence, and within it in the order of the
  // ranks that read them.
  void Return(const ExecContext& cx, const TensorView& dhalo, const TensorView& dx) const {
    std::vector<Message> sends;
    std::vector<Message> receives;
    std::vector<Tensor> returned;
    for (int32_t q = 0; q < rows_.layout.sequences; ++q) {
      for (const HaloPiece& piece : plan_.receives) {
        sends.push_back({piece.peer, RowsOf(dhalo, q, piece)});
      }
      for (const HaloPiece& piece : plan_.sends) {
        returned.push_back(cx.Empty({piece.size(), dx.cols()}, dx.dtype));
        receives.push_back({piece.peer, returned.back()});
      }
    }
    group_.Exchange("short convolution gradients", sends, receives, cx.stream);
    size_t next = 0;
    for (int32_t q = 0; q < rows_.layout.sequences; ++q) {
      for (const HaloPiece& piece : plan_.sends) {
        const TensorView own = OwnRows(dx, q, piece);
        Add(own, returned[next++], own, cx.stream);
      }
    }
  }

 private:
  [[nodiscard]] TensorView OwnRows(const TensorView& x, int32_t sequence, const HaloPiece& piece) const {
    return x.Rows(rows_.layout.TextRow(sequence, TextRowOf(rows_.layout, piece.begin)), piece.size());
  }

  [[nodiscard]] TensorView RowsOf(const TensorView& halo, int32_t sequence, const HaloPiece& piece) const {
    return halo.Rows(rows_.HaloRow(sequence, piece.run, piece.before), piece.size());
  }

  Communicator& group_;
  ConvRows rows_;
  HaloPlan plan_;
};

class ShortConvNode final : public Node {
 public:
  ShortConvNode(Var x, int out, Tensor halo, const ShortConvSpec& spec)
      : x_(std::move(x)), out_(out), halo_(std::move(halo)), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return kOp; }

  void Backward(const ExecContext& cx) override {
    const bool travels = IsContextParallel(cx);
    Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    Tensor dx = cx.Empty(x_.value.shape(), x_.value.dtype());
    const Tensor dhalo = travels ? cx.Empty(halo_.shape(), halo_.dtype()) : Tensor();
    const GradientTarget target(*spec_.weight, *cx.allocator);
    ShortConvBackward({.dy = dy,
                       .x = x_.value,
                       .halo = halo_,
                       .weight = spec_.weight->value,
                       .dx = dx,
                       .dhalo = dhalo,
                       .dweight = target.to,
                       .accumulate = target.accumulate,
                       .layout = spec_.layout,
                       .form = spec_.form,
                       .allocator = cx.allocator},
                      cx.stream);
    if (travels) {
      Halo(cx, spec_).Return(cx, dhalo, dx);
    }
    cx.tape->AddGrad(cx, x_.slot, std::move(dx));
  }

 private:
  Var x_;
  int out_;
  Tensor halo_;
  ShortConvSpec spec_;
};

}  // namespace

Var ShortConv(const ExecContext& cx, const Var& x, const ShortConvSpec& spec) {
  const bool sharded = spec.weight->spec.tensor == Placement::Sharded(0);
  RequireTensorPlacement(kOp, x, sharded ? Placement::Sharded(1) : Placement::Entered());
  RequireGradientPartial(kOp, *spec.weight, !sharded);
  Tensor halo = IsContextParallel(cx) ? Halo(cx, spec).Fetch(cx, x.value) : Tensor();
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype());
  ShortConvForward(
      {.x = x.value, .halo = halo, .weight = spec.weight->value, .y = y, .layout = spec.layout, .form = spec.form},
      cx.stream);
  Var out = Result(cx, std::move(y), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<ShortConvNode>(x, out.slot, std::move(halo), spec));
  }
  return out;
}

}  // namespace ksa
