#include "model/ops/latent.h"

#include <memory>
#include <utility>

#include "kernels/copy/column_block.h"
#include "kernels/copy/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/latent/latent_heads.h"
#include "model/autograd/checks.h"
#include "model/ops/heads.h"

namespace ksa {
namespace {

class SplitColumnsNode final : public Node {
 public:
  SplitColumnsNode(Var x, std::array<int, 2> out, int64_t first) : x_(std::move(x)), out_(out), first_(first) {}

  [[nodiscard]] const char* name() const override { return "split columns"; }

  void Backward(const ExecContext& cx) override {
    const std::array<Tensor, 2> dy = {cx.tape->TakeGrad(out_[0]), cx.tape->TakeGrad(out_[1])};
    if (dy[0].empty() && dy[1].empty()) {
      return;
    }
    Tensor dx = cx.Empty(x_.value.shape(), x_.value.dtype());
    if (dy[0].empty() || dy[1].empty()) {
      Zero(dx, cx.stream);
    }
    for (size_t i = 0; i < 2; ++i) {
      const int64_t columns = i == 0 ? first_ : dx.cols() - first_;
      if (!dy[i].empty()) {
        CopyBlock({dy[i], 0, columns}, {dx, i == 0 ? 0 : first_, columns}, cx.stream);
      }
    }
    cx.tape->AddGrad(cx, x_.slot, std::move(dx));
  }

 private:
  Var x_;
  std::array<int, 2> out_;
  int64_t first_;
};

class RotateTailsNode final : public Node {
 public:
  RotateTailsNode(int in, int out, const RotateTailsSpec& spec) : in_(in), out_(out), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return "rotate tails"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    Tensor dx = cx.Empty(dy.shape(), dy.dtype());
    RotateTails({.x = Heads(dy, spec_.head_dim),
                 .table = spec_.table,
                 .y = Heads(dx, spec_.head_dim),
                 .layout = spec_.layout,
                 .inverse = true},
                cx.stream);
    cx.tape->AddGrad(cx, in_, std::move(dx));
  }

 private:
  int in_;
  int out_;
  RotateTailsSpec spec_;
};

// The tensors of LatentHeads by head.
struct LatentShapes {
  int64_t heads;
  int64_t nope;
  int64_t rope;
  int64_t values;

  [[nodiscard]] int64_t key() const { return nope + rope; }

  [[nodiscard]] int64_t both() const { return nope + values; }
};

class LatentHeadsNode final : public Node {
 public:
  LatentHeadsNode(int kv, int rope, std::array<int, 2> out, const LatentShapes& shapes)
      : kv_(kv), rope_(rope), out_(out), shapes_(shapes) {}

  [[nodiscard]] const char* name() const override { return "latent heads"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dk = cx.tape->TakeGrad(out_[0]);
    const Tensor dv = cx.tape->TakeGrad(out_[1]);
    if (dk.empty() || dv.empty()) {
      return;  // attention reads both, or neither
    }
    Tensor dkv = cx.Empty({dk.rows(), shapes_.heads * shapes_.both()}, dk.dtype());
    Tensor drope = cx.Empty({dk.rows(), shapes_.rope}, dk.dtype());
    LatentHeadsBackward({.dk = Heads(dk, static_cast<int>(shapes_.key())),
                         .dv = Heads(dv, static_cast<int>(shapes_.values)),
                         .dkv = Heads(dkv, static_cast<int>(shapes_.both())),
                         .drope = drope},
                        cx.stream);
    cx.tape->AddGrad(cx, kv_, std::move(dkv));
    cx.tape->AddGrad(cx, rope_, std::move(drope));
  }

 private:
  int kv_;
  int rope_;
  std::array<int, 2> out_;
  LatentShapes shapes_;
};

class LatentExpander final : public KeyExpander {
 public:
  LatentExpander(Parameter& kv_b, const LatentShapes& shapes) : kv_b_(kv_b), shapes_(shapes) {}

  [[nodiscard]] int value_dim() const override { return static_cast<int>(shapes_.values); }

  [[nodiscard]] KeyPair Expand(const ExecContext& cx, const KeyViews& small) const override {
    const int64_t rows = small.k.rows();
    const DType dtype = small.k.dtype;
    const Tensor kv = cx.Empty({rows, shapes_.heads * shapes_.both()}, dtype);
    KeyPair keys = {cx.Empty({rows, shapes_.heads * shapes_.key()}, dtype),
                    cx.Empty({rows, shapes_.heads * shapes_.values}, dtype)};
    Gemm({.a = small.k, .b = kv_b_.value, .c = kv, .transpose_b = true}, cx.stream);
    LatentHeadsForward({.kv = Heads(kv, static_cast<int>(shapes_.both())),
                        .rope = small.v,
                        .k = Heads(keys.k, static_cast<int>(shapes_.key())),
                        .v = Heads(keys.v, value_dim())},
                       cx.stream);
    return keys;
  }

  [[nodiscard]] KeyPair Backward(const ExecContext& cx,
                                 const KeyViews& small,
                                 const KeyPair& gradients) const override {
    const int64_t rows = small.k.rows();
    const DType dtype = small.k.dtype;
    const Tensor dkv = cx.Empty({rows, shapes_.heads * shapes_.both()}, dtype);
    KeyPair dsmall = {cx.Empty(small.k.shape, dtype), cx.Empty(small.v.shape, dtype)};
    LatentHeadsBackward({.dk = Heads(gradients.k, static_cast<int>(shapes_.key())),
                         .dv = Heads(gradients.v, value_dim()),
                         .dkv = Heads(dkv, static_cast<int>(shapes_.both())),
                         .drope = dsmall.v},
                        cx.stream);
    Gemm({.a = dkv, .b = kv_b_.value, .c = dsmall.k}, cx.stream);
    if (kv_b_.spec.trained) {
      const double beta = kv_b_.Accumulate() ? 1.0 : 0.0;
      Gemm({.a = dkv, .b = small.k, .c = kv_b_.grad, .transpose_a = true, .beta = beta}, cx.stream);
    }
    return dsmall;
  }

 private:
  Parameter& kv_b_;
  LatentShapes shapes_;
};

}  // namespace

std::shared_ptr<const KeyExpander> MakeLatentExpander(Parameter& kv_b, int rope_columns, const LatentHeadsSpec& spec) {
  const int64_t both = spec.nope_columns + spec.value_columns;
  return std::make_shared<LatentExpander>(
      kv_b, LatentShapes{kv_b.value.rows() / both, spec.nope_columns, rope_columns, spec.value_columns});
}

std::array<Var, 2> SplitColumns(const ExecContext& cx, const Var& x, int64_t first) {
  constexpr const char* kOp = "split columns";
  RequireNotPartial(kOp, x);
  KSA_CHECK(x.placement[MeshAxis::kTensor] != Placement::Sharded(1), "{}: the columns are spread over ranks", kOp);
  KSA_CHECK(0 < first && first < x.cols(), "{}: {} of {} columns", kOp, first, x.cols());
  std::array<Var, 2> parts;
  for (size_t i = 0; i < 2; ++i) {
    const int64_t columns = i == 0 ? first : x.cols() - first;
    Tensor y = cx.Empty({x.rows(), columns}, x.value.dtype());
    CopyBlock({x.value, i == 0 ? 0 : first, columns}, {y, 0, columns}, cx.stream);
    parts[i] = Result(cx, std::move(y), x.placement);
  }
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<SplitColumnsNode>(x, std::array<int, 2>{parts[0].slot, parts[1].slot}, first));
  }
  return parts;
}

Var RotateTails(const ExecContext& cx, const Var& x, const RotateTailsSpec& spec) {
  constexpr const char* kOp = "rotate tails";
  RequireRows(kOp, x);
  const Placement& tensor = x.placement[MeshAxis::kTensor];
  KSA_CHECK(tensor == Placement::Sharded(1) || tensor == Placement::Entered(),
            "{}: the input must be whole heads or entered over the tensor axis, it is {}",
            kOp,
            tensor.ToString());
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype());
  RotateTails(
      {.x = Heads(x.value, spec.head_dim), .table = spec.table, .y = Heads(y, spec.head_dim), .layout = spec.layout},
      cx.stream);
  Var out = Result(cx, std::move(y), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<RotateTailsNode>(x.slot, out.slot, spec));
  }
  return out;
}

std::array<Var, 2> LatentHeads(const ExecContext& cx, const Var& kv, const Var& rope, const LatentHeadsSpec& spec) {
  constexpr const char* kOp = "latent heads";
  RequireTensorPlacement(kOp, kv, Placement::Sharded(1));
  RequireTensorPlacement(kOp, rope, Placement::Entered());
  const int64_t both = spec.nope_columns + spec.value_columns;
  KSA_CHECK(kv.cols() % both == 0, "{}: {} columns are no whole number of heads of {}", kOp, kv.cols(), both);
  const LatentShapes shapes = {kv.cols() / both, spec.nope_columns, rope.cols(), spec.value_columns};
  Tensor k = cx.Empty({kv.rows(), shapes.heads * shapes.key()}, kv.value.dtype());
  Tensor v = cx.Empty({kv.rows(), shapes.heads * shapes.values}, kv.value.dtype());
  LatentHeadsForward({.kv = Heads(kv.value, static_cast<int>(both)),
                      .rope = rope.value,
                      .k = Heads(k, static_cast<int>(shapes.key())),
                      .v = Heads(v, spec.value_columns)},
                     cx.stream);
  std::array<Var, 2> out = {Result(cx, std::move(k), kv.placement), Result(cx, std::move(v), kv.placement)};
  if (cx.tape != nullptr) {
    cx.tape->Record(
        std::make_unique<LatentHeadsNode>(kv.slot, rope.slot, std::array<int, 2>{out[0].slot, out[1].slot}, shapes));
  }
  return out;
}

}  // namespace ksa
