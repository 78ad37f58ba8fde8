#include "model/ops/embedding.h"

#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/embedding/embedding.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

// Which ids of the whole table this rank holds.
TableShard ShardOf(const EmbeddingSpec& spec) {
  return {spec.table->shard_begin, spec.table->spec.shape[0]};
}

SummaryStart SummariesOf(const ExecContext& cx, const EmbeddingSpec& spec) {
  if (spec.summary_table == nullptr && spec.layout.summary_tokens > 0) {
    return {.first_id = spec.vocab_size};
  }
  const bool sharded = spec.table->spec.tensor == Placement::Sharded(0);
  return {.contributes = !sharded || cx.mesh == nullptr || cx.mesh->Rank(MeshAxis::kTensor) == 0};
}

// The gradient of a table, ready to be added to; none of one that is not there or not trained.
TensorView AddedTo(const ExecContext& cx, Parameter* table) {
  if (table == nullptr || !table->spec.trained) {
    return {};
  }
  if (!table->Accumulate()) {
    Zero(table->grad, cx.stream);
  }
  return table->grad;
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
    const TensorView table = AddedTo(cx, spec_.table);
    const TensorView own = AddedTo(cx, spec_.summary_table);
    if (table.empty() && own.empty()) {
      return;
    }
    EmbeddingBackward({.ids = ids_,
                       .dy = dy,
                       .dtable = table,
                       .dsummary_table = own,
                       .layout = spec_.layout,
                       .shard = ShardOf(spec_),
                       .summaries = SummariesOf(cx, spec_),
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
  constexpr const char* kOp = "embedding";
  const bool sharded = spec.table->spec.tensor == Placement::Sharded(0);
  KSA_CHECK(sharded || spec.table->spec.tensor == Placement::Replicated(),
            "{}: a table that is {}",
            kOp,
            spec.table->spec.tensor.ToString());
  RequireGradientPartial(kOp, *spec.table, false);
  if (spec.summary_table != nullptr) {
    KSA_CHECK(spec.summary_table->spec.tensor == Placement::Replicated(), "{}: summaries of a table in parts", kOp);
    RequireGradientPartial(kOp, *spec.summary_table, false);
  }
  const TensorView& table = spec.table->value;
  Tensor y = cx.Empty({spec.layout.rows(), table.cols()}, table.dtype);
  const TensorView own = spec.summary_table == nullptr ? TensorView{} : spec.summary_table->value;
  EmbeddingForward({.ids = ids,
                    .table = table,
                    .summary_table = own,
                    .y = y,
                    .layout = spec.layout,
                    .shard = ShardOf(spec),
                    .summaries = SummariesOf(cx, spec)},
                   cx.stream);
  Var out = Result(cx, std::move(y), Placements::Rows(sharded ? Placement::Partial() : Placement::Replicated()));
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<EmbeddingNode>(ids, out.slot, spec));
  }
  return out;
}

}  // namespace ksa
