#include "model/ops/embedding.h"

#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/embedding/embedding.h"

namespace ksa {
namespace {

// The table that starts the summaries: the parameter's own, or the extra rows of the token table.
TensorView SummaryRowsOf(const EmbeddingSpec& spec, TensorView own, const TensorView& table) {
  if (spec.layout.summary_tokens == 0) {
    return {};
  }
  return spec.summary_table != nullptr ? std::move(own) : table.Rows(spec.vocab_size, spec.layout.summary_tokens);
}

void ZeroUnlessWritten(const ExecContext& cx, Parameter& parameter) {
  if (!parameter.Accumulate()) {
    Zero(parameter.grad, cx.stream);
  }
}

class EmbeddingNode final : public Node {
 public:
  EmbeddingNode(Tensor ids, int out, const EmbeddingSpec& spec) : ids_(std::move(ids)), out_(out), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return "embedding"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    ZeroUnlessWritten(cx, *spec_.table);
    TensorView own;
    if (spec_.summary_table != nullptr) {
      ZeroUnlessWritten(cx, *spec_.summary_table);
      own = spec_.summary_table->grad;
    }
    EmbeddingBackward({.ids = ids_,
                       .dy = dy,
                       .dtable = spec_.table->grad,
                       .dsummary_table = SummaryRowsOf(spec_, own, spec_.table->grad),
                       .layout = spec_.layout,
                       .allocator = cx.allocator},
                      cx.stream);
  }

 private:
  Tensor ids_;
  int out_;
  EmbeddingSpec spec_;
};

}  // namespace

Var Embedding(const ExecContext& cx, const Tensor& ids, const EmbeddingSpec& spec) {
  const TensorView& table = spec.table->value;
  Tensor y = cx.Empty({spec.layout.rows(), table.cols()}, table.dtype);
  const TensorView own = spec.summary_table == nullptr ? TensorView{} : spec.summary_table->value;
  EmbeddingForward(
      {.ids = ids, .table = table, .summary_table = SummaryRowsOf(spec, own, table), .y = y, .layout = spec.layout},
      cx.stream);
  const bool sharded = spec.table->spec.tensor == Placement::Sharded(0);
  Var out = Result(cx, std::move(y), Placements::Rows(sharded ? Placement::Partial() : Placement::Replicated()));
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<EmbeddingNode>(ids, out.slot, spec));
  }
  return out;
}

}  // namespace ksa
