#include "model/ops/rows.h"

#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/copy/select_rows.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

class RowsNode final : public Node {
 public:
  RowsNode(int in, const Shape& shape, int64_t first, int out) : in_(in), shape_(shape), first_(first), out_(out) {}

  [[nodiscard]] const char* name() const override { return "rows"; }

  void Backward(const ExecContext& cx) override {
    cx.tape->AddGradRows(cx, in_, shape_, first_, cx.tape->TakeGrad(out_));
  }

 private:
  int in_;
  Shape shape_;
  int64_t first_;
  int out_;
};

class SelectRowsNode final : public Node {
 public:
  SelectRowsNode(int in, const Shape& shape, Tensor rows, int64_t first_row, int out)
      : in_(in), shape_(shape), rows_(std::move(rows)), first_row_(first_row), out_(out) {}

  [[nodiscard]] const char* name() const override { return "select rows"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    Tensor dx = cx.Empty(shape_, dy.dtype());
    ScatterRows(dy, {rows_, first_row_}, dx, cx.stream);
    cx.tape->AddGrad(cx, in_, std::move(dx));
  }

 private:
  int in_;
  Shape shape_;
  Tensor rows_;
  int64_t first_row_;
  int out_;
};

class StackRowsNode final : public Node {
 public:
  StackRowsNode(int a, int b, int64_t first, int out) : a_(a), b_(b), first_(first), out_(out) {}

  [[nodiscard]] const char* name() const override { return "stack rows"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    cx.tape->AddGrad(cx, a_, dy.Rows(0, first_));
    cx.tape->AddGrad(cx, b_, dy.Rows(first_, dy.rows() - first_));
  }

 private:
  int a_;
  int b_;
  int64_t first_;
  int out_;
};

class AddRowsNode final : public Node {
 public:
  AddRowsNode(int x, int delta, int64_t rows, int out) : x_(x), delta_(delta), rows_(rows), out_(out) {}

  [[nodiscard]] const char* name() const override { return "add"; }

  void Backward(const ExecContext& cx) override {
    Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    cx.tape->AddGrad(cx, delta_, dy.Rows(0, rows_));
    cx.tape->AddGrad(cx, x_, std::move(dy));
  }

 private:
  int x_;
  int delta_;
  int64_t rows_;
  int out_;
};

class MixRowsNode final : public Node {
 public:
  MixRowsNode(int own, int base, int64_t first, double a, int out)
      : own_(own), base_(base), first_(first), a_(a), out_(out) {}

  [[nodiscard]] const char* name() const override { return "annealing mix"; }

  void Backward(const ExecContext& cx) override {
    Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    const int64_t count = dy.rows() - first_;
    Tensor dbase = cx.Empty(dy.shape().WithRows(count), dy.dtype());
    Axpby(1.0 - a_, dy.Rows(first_, count), 0.0, dbase, cx.stream);
    cx.tape->AddGrad(cx, base_, std::move(dbase));
    if (dy.shared()) {
      Tensor copy = cx.Empty(dy.shape(), dy.dtype());
      Copy(dy, copy, cx.stream);
      dy = std::move(copy);
    }
    const Tensor rows = dy.Rows(first_, count);
    Axpby(a_, rows, 0.0, rows, cx.stream);
    cx.tape->AddGrad(cx, own_, std::move(dy));
  }

 private:
  int own_;
  int base_;
  int64_t first_;
  double a_;
  int out_;
};

}  // namespace

Var Rows(const ExecContext& cx, const Var& x, int64_t first, int64_t count) {
  RequireNotPartial("rows", x);
  if (first == 0 && count == x.rows()) {
    return x;
  }
  Var out = Result(cx, x.value.Rows(first, count), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<RowsNode>(x.slot, x.value.shape(), first, out.slot));
  }
  return out;
}

Var SelectRows(const ExecContext& cx, const Var& x, const Tensor& rows, int64_t first_row) {
  RequireRows("select rows", x);
  // Room for all rows: memory does not depend on how many are selected.
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype()).Rows(0, rows.size());
  GatherRows(x.value, {rows, first_row}, y, cx.stream);
  Var out = Result(cx, std::move(y), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<SelectRowsNode>(x.slot, x.value.shape(), rows, first_row, out.slot));
  }
  return out;
}

Var StackRows(const ExecContext& cx, const Var& a, const Var& b) {
  RequireNotPartial("stack rows", a);
  RequireSamePlacement("stack rows", a, b);
  Tensor y = cx.Empty(a.value.shape().WithRows(a.rows() + b.rows()), a.value.dtype());
  Copy(a.value, y.Rows(0, a.rows()), cx.stream);
  Copy(b.value, y.Rows(a.rows(), b.rows()), cx.stream);
  Var out = Result(cx, std::move(y), a.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<StackRowsNode>(a.slot, b.slot, a.rows(), out.slot));
  }
  return out;
}

Var AddRows(const ExecContext& cx, const Var& x, const Var& delta) {
  RequireWholeRows("add", x);
  RequireSamePlacement("add", x, delta);
  const int64_t rows = delta.rows();
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype());
  Add(x.value.Rows(0, rows), delta.value, y.Rows(0, rows), cx.stream);
  Copy(x.value.Rows(rows, x.rows() - rows), y.Rows(rows, x.rows() - rows), cx.stream);
  Var out = Result(cx, std::move(y), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<AddRowsNode>(x.slot, delta.slot, rows, out.slot));
  }
  return out;
}

Var MixRows(const ExecContext& cx, const Var& own, const Var& base, int64_t first, double a) {
  RequireNotPartial("annealing mix", own);
  RequireSamePlacement("annealing mix", own, base);
  const int64_t count = own.rows() - first;
  KSA_CHECK(base.rows() == count, "annealing mix: {} rows to mix, {} base rows", count, base.rows());
  Tensor y = cx.Empty(own.value.shape(), own.value.dtype());
  Copy(own.value, y, cx.stream);
  const Tensor mixed = y.Rows(first, count);
  Copy(base.value, mixed, cx.stream);
  Axpby(a, own.value.Rows(first, count), 1.0 - a, mixed, cx.stream);
  Var out = Result(cx, std::move(y), own.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<MixRowsNode>(own.slot, base.slot, first, a, out.slot));
  }
  return out;
}

}  // namespace ksa
