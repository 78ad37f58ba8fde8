#include "model/ops/collectives.h"

#include <utility>

#include "model/autograd/checks.h"
#include "parallel/tensor/row_collectives.h"

namespace ksa {
namespace {

constexpr const char* kEnter = "tensor enter";
constexpr const char* kReduce = "tensor reduce";

bool RowsInParts(const ExecContext& cx) {
  return cx.mesh != nullptr && cx.mesh->sequence_parallel();
}

bool IsAlone(const ExecContext& cx) {
  return cx.mesh == nullptr || cx.mesh->Size(MeshAxis::kTensor) == 1;
}

Placement BetweenProducts(const ExecContext& cx) {
  return RowsInParts(cx) ? Placement::Sharded(0) : Placement::Replicated();
}

Tensor EmptyRows(const ExecContext& cx, const Tensor& like, const RowCounts& rows) {
  return cx.Empty(like.shape().WithRows(rows.total()), like.dtype());
}

Tensor Gathered(const ExecContext& cx, const char* op, const Tensor& part, const RowCounts& rows) {
  Tensor whole = EmptyRows(cx, part, rows);
  GatherRows(op, part, whole, rows, cx.mesh->group(MeshAxis::kTensor), cx.stream);
  return whole;
}

// The sum over ranks, of the rows that this one holds between products.
Tensor Summed(const ExecContext& cx, const char* op, const Tensor& x, const RowCounts& rows) {
  Tensor sum = EmptyRows(cx, x, HeldRows(cx, rows));
  if (RowsInParts(cx)) {
    RowReduceScatter(op, x, sum, rows, cx.mesh->group(MeshAxis::kTensor), *cx.allocator, cx.stream).Finish(cx.stream);
  } else {
    AllReduceRows(op, x, sum, cx.mesh->group(MeshAxis::kTensor), *cx.allocator, cx.stream);
  }
  return sum;
}

class EnterNode final : public Node {
 public:
  EnterNode(int in, int out, const RowCounts& rows) : in_(in), out_(out), rows_(rows) {}

  [[nodiscard]] const char* name() const override { return kEnter; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (!dy.empty()) {
      cx.tape->AddGrad(cx, in_, Summed(cx, kEnter, dy, rows_));
    }
  }

 private:
  int in_;
  int out_;
  RowCounts rows_;
};

class ReduceNode final : public Node {
 public:
  ReduceNode(int in, int out, const RowCounts& rows) : in_(in), out_(out), rows_(rows) {}

  [[nodiscard]] const char* name() const override { return kReduce; }

  void Backward(const ExecContext& cx) override {
    Tensor dy = cx.tape->TakeGrad(out_);
    if (!dy.empty()) {
      cx.tape->AddGrad(cx, in_, RowsInParts(cx) ? Gathered(cx, kReduce, dy, rows_) : std::move(dy));
    }
  }

 private:
  int in_;
  int out_;
  RowCounts rows_;
};

void CheckRows(const char* op, const Var& x, int64_t rows) {
  KSA_CHECK(x.rows() == rows, "{}: {} rows, of which {} are here", op, x.rows(), rows);
}

}  // namespace

RowCounts HeldRows(const ExecContext& cx, const RowCounts& rows) {
  return RowsInParts(cx) ? rows.Part(cx.mesh->Size(MeshAxis::kTensor), cx.mesh->Rank(MeshAxis::kTensor)) : rows;
}

Var TensorEnter(const ExecContext& cx, const Var& x, const RowCounts& rows) {
  RequireTensorPlacement(kEnter, x, BetweenProducts(cx));
  CheckRows(kEnter, x, HeldRows(cx, rows).total());
  Placements placement = x.placement;
  placement[MeshAxis::kTensor] = Placement::Entered();
  if (IsAlone(cx)) {
    return {x.value, placement, x.slot};  // both directions are the identity
  }
  Var out = Result(cx, RowsInParts(cx) ? Gathered(cx, kEnter, x.value, rows) : x.value, placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<EnterNode>(x.slot, out.slot, rows));
  }
  return out;
}

Var TensorReduce(const ExecContext& cx, const Var& x, const RowCounts& rows) {
  RequireTensorPlacement(kReduce, x, Placement::Partial());
  CheckRows(kReduce, x, rows.total());
  Placements placement = x.placement;
  placement[MeshAxis::kTensor] = BetweenProducts(cx);
  if (IsAlone(cx)) {
    return {x.value, placement, x.slot};
  }
  Var out = Result(cx, Summed(cx, kReduce, x.value, rows), placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<ReduceNode>(x.slot, out.slot, rows));
  }
  return out;
}

}  // namespace ksa
