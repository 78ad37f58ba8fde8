#include "model/ops/loss.h"

#include <algorithm>
#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/loss/linear_cross_entropy.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

constexpr const char* kOp = "cross-entropy";

class LossNode final : public Node {
 public:
  LossNode(int in, Tensor dx) : in_(in), dx_(std::move(dx)) {}

  [[nodiscard]] const char* name() const override { return kOp; }

  void Backward(const ExecContext& cx) override { cx.tape->AddGrad(cx, in_, std::move(dx_)); }

 private:
  int in_;
  Tensor dx_;
};

// This rank's part of the vocabulary; what it must know of the others' is three numbers a row.
VocabularyShard ShardOf(const ExecContext& cx, const Parameter& head) {
  if (cx.mesh == nullptr || cx.mesh->Size(MeshAxis::kTensor) == 1) {
    return {};
  }
  Communicator& group = cx.mesh->group(MeshAxis::kTensor);
  return {.first_id = head.shard_begin,
          .vocab = head.spec.shape[0],
          .part = group.rank(),
          .parts = group.size(),
          .gather_stats = [&group, &cx](const TensorView& stats) { group.AllGather(kOp, stats, cx.stream); }};
}

}  // namespace

CrossEntropyResult LinearCrossEntropyLoss(
    const ExecContext& cx, const Var& x, Parameter& head, const Tensor& targets, LossOptions options) {
  const bool sharded = head.spec.tensor == Placement::Sharded(0);
  RequireTensorPlacement(kOp, x, sharded ? Placement::Entered() : Placement::Replicated());
  RequireGradientPartial(kOp, head, false);
  Tensor& loss_sum = options.loss_sum;
  if (loss_sum.empty()) {
    loss_sum = cx.Empty({1}, DType::kF64);
    Zero(loss_sum, cx.stream);
  }
  CrossEntropyResult result;
  const int64_t room = std::max(x.rows(), options.most_rows);
  result.row_loss = cx.Empty({room}, AccumulationType(x.value.dtype())).Rows(0, x.rows());
  if (options.margins) {
    result.margin = cx.Empty({room}, result.row_loss.dtype()).Rows(0, x.rows());
  }
  LinearCrossEntropyArgs args = {.x = x.value,
                                 .weight = head.value,
                                 .targets = targets,
                                 .row_loss = result.row_loss,
                                 .margin = result.margin,
                                 .loss_sum = loss_sum,
                                 .weights = options.weights,
                                 .teacher_x = options.teacher,
                                 .term_sums = options.term_sums,
                                 .largest = options.largest,
                                 .grad_scale = options.grad_scale,
                                 .shard = sharded ? ShardOf(cx, head) : VocabularyShard{},
                                 .most_rows = options.most_rows,
                                 .allocator = cx.allocator};
  Tensor dx;
  if (cx.tape != nullptr) {
    dx = cx.Empty(x.value.shape().WithRows(room), x.value.dtype()).Rows(0, x.rows());
    args.dx = dx;
    if (head.spec.trained) {
      args.dweight = head.grad;
      args.accumulate = head.Accumulate();
    }
  }
  LinearCrossEntropy(args, cx.stream);
  Placements placement;
  placement[MeshAxis::kData] = Placement::Partial();
  placement[MeshAxis::kContext] = Placement::Partial();
  result.loss_sum = Result(cx, std::move(loss_sum), placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<LossNode>(x.slot, std::move(dx)));
  }
  return result;
}

}  // namespace ksa
