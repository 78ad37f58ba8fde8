// Every operation with every placement of its inputs: what it was not made for is an error in one process, long before
// a second rank exists. So is a parameter whose gradient would be reduced when it is whole, or not when it is partial.
#include <algorithm>
#include <functional>

#include <fmt/core.h>

#include "kernels/rope/qk_norm_rope.h"
#include "model/ops/attention.h"
#include "model/ops/chunk_pool.h"
#include "model/ops/collectives.h"
#include "model/ops/context_attention.h"
#include "model/ops/embedding.h"
#include "model/ops/linear.h"
#include "model/ops/loss.h"
#include "model/ops/norm.h"
#include "model/ops/rope.h"
#include "model/ops/rows.h"
#include "model/ops/short_conv.h"
#include "model/ops/swiglu.h"
#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::PartialWeight;
using testing::Vars;
using testing::Weight;

constexpr int64_t kRows = 6;
constexpr int64_t kCols = 4;
constexpr int kHeadDim = 2;
constexpr double kEps = 0.1;

const Placement kReplicated = Placement::Replicated();
const Placement kEntered = Placement::Entered();
const Placement kRowParts = Placement::Sharded(0);
const Placement kColumns = Placement::Sharded(1);
const Placement kPartial = Placement::Partial();
const std::vector<Placement> kAll = {kReplicated, kEntered, kRowParts, kColumns, kPartial};
const std::vector<Placement> kAllButPartial = {kReplicated, kEntered, kRowParts, kColumns};

SummaryLayout Layout() {
  return {.text_tokens = kRows};
}

// The operations on the parameters of one test.
class AllOps {
 public:
  AllOps()
      : test_({Weight("column", {3, kCols}, Placement::Sharded(0)),
               Weight("row", {3, kCols}, Placement::Sharded(1)),
               Weight("square", {3, kCols}),
               Weight("norm", {kCols}),
               PartialWeight("partial norm", {kCols}),
               PartialWeight("head norm", {kHeadDim}),
               Weight("taps", {kCols, 1, 2}, Placement::Sharded(0)),
               PartialWeight("whole taps", {kCols, 1, 2}),
               Weight("slots", {1, kCols}, Placement::Sharded(1)),
               Weight("head", {5, kCols}, Placement::Sharded(0)),
               Weight("whole head", {5, kCols})}),
        rope_(Tensor::Empty({kRows, kHeadDim / 2, 2}, DType::kF64, test_.allocator())),
        targets_(testing::Integers("targets", {kRows}, 0, 5, test_.allocator())),
        world_(MakeSelfCommunicator()),
        whole_rows_(*world_, {}, false),
        row_parts_(*world_, {}, true) {
    FillRopeTable(rope_, 100.0, {});
  }

  // An operation of `inputs` matrices [6, 4], and what their tensor axis may be: the same for all of them.
  struct Case {
    const char* name;
    int inputs;
    std::vector<Placement> tensor;
    std::function<void(const ExecContext& cx, const Vars& x)> run;
    bool in_parts = false;  // the mesh's
  };

  [[nodiscard]] std::vector<Case> Cases() {
    const SummaryLayout layout = Layout();
    const RowCounts rows = {kRows};
    const auto linear = [this](const char* weight) {
      return [this, weight](const ExecContext& cx, const Vars& x) { (void)Linear(cx, x[0], test_.Get(weight)); };
    };
    const auto norm = [this](const char* weight) {
      return [this, weight](const ExecContext& cx, const Vars& x) {
        (void)RmsNorm(cx, x[0], 3, test_.Get(weight), nullptr, kEps);
      };
    };
    const auto add_norm = [this](const char* weight) {
      return [this, weight](const ExecContext& cx, const Vars& x) {
        (void)AddRmsNorm(cx, x[0], x[1], 3, test_.Get(weight), nullptr, kEps);
      };
    };
    const auto loss = [this](const char* head) {
      return [this, head](const ExecContext& cx, const Vars& x) {
        (void)LinearCrossEntropyLoss(cx, x[0], test_.Get(head), targets_, 1.0);
      };
    };
    const auto conv = [this, layout](const char* taps) {
      return [this, layout, taps](const ExecContext& cx, const Vars& x) {
        (void)ShortConv(cx, x[0], {.layout = layout, .whole = layout, .weight = &test_.Get(taps)});
      };
    };
    const auto enter = [rows](const ExecContext& cx, const Vars& x) { (void)TensorEnter(cx, x[0], rows); };
    const auto reduce = [rows](const ExecContext& cx, const Vars& x) { (void)TensorReduce(cx, x[0], rows); };
    return {
        {"column-parallel linear", 1, {kEntered}, linear("column")},
        {"row-parallel linear", 1, {kColumns}, linear("row")},
        {"linear", 1, {kReplicated}, linear("square")},
        {"norm", 1, {kReplicated}, norm("norm")},
        {"norm of rows in parts", 1, {kRowParts, kEntered}, norm("partial norm")},
        {"add and norm", 2, {kReplicated}, add_norm("norm")},
        {"add and norm of rows in parts", 2, {kRowParts, kEntered}, add_norm("partial norm")},
        {"q/k norm and RoPE",
         1,
         {kColumns},
         [this, layout](const ExecContext& cx, const Vars& x) {
           (void)QkNormRope(cx,
                            x[0],
                            {.layout = layout,
                             .split = kRows,
                             .weight = &test_.Get("head norm"),
                             .table = rope_,
                             .head_dim = kHeadDim,
                             .eps = kEps});
         }},
        {"attention",
         3,
         {kColumns},
         [layout](const ExecContext& cx, const Vars& x) {
           (void)Attention(cx, x[0], x[1], x[2], {.layout = layout, .head_dim = kHeadDim});
         }},
        {"context attention",
         3,
         {kColumns},
         [layout](const ExecContext& cx, const Vars& x) {
           const auto keys = StartContextKeys(cx, x[1], x[2], 2, {.whole = layout, .head_dim = kHeadDim});
           (void)ContextAttention(cx, x[0], keys);
         }},
        {"short convolution", 1, {kColumns}, conv("taps")},
        {"short convolution of whole rows", 1, {kEntered}, conv("whole taps")},
        {"chunk pool",
         3,
         {kColumns},
         [this](const ExecContext& cx, const Vars& x) {
           const SummaryLayout entries = {.text_tokens = kRows, .summary_tokens = 1, .live_chunks = 2};
           (void)ChunkPool(cx, x[0], {x[1], x[2]}, {.layout = entries, .bias = &test_.Get("slots")});
         }},
        {"stack rows",
         2,
         kAllButPartial,
         [](const ExecContext& cx, const Vars& x) { (void)StackRows(cx, x[0], x[1]); }},
        {"rows", 1, kAllButPartial, [](const ExecContext& cx, const Vars& x) { (void)Rows(cx, x[0], 1, 2); }},
        {"add",
         2,
         {kReplicated, kRowParts},
         [](const ExecContext& cx, const Vars& x) { (void)AddRows(cx, x[0], x[1]); }},
        {"annealing mix",
         2,
         kAllButPartial,
         [](const ExecContext& cx, const Vars& x) { (void)MixRows(cx, x[0], x[1], 0, 0.5); }},
        {"SwiGLU", 2, kAllButPartial, [](const ExecContext& cx, const Vars& x) { (void)Swiglu(cx, x[0], x[1]); }},
        {"tensor enter", 1, {kReplicated}, enter},
        {"tensor enter of rows in parts", 1, {kRowParts}, enter, true},
        {"tensor reduce", 1, {kPartial}, reduce},
        {"tensor reduce to rows in parts", 1, {kPartial}, reduce, true},
        {"cross-entropy", 1, {kEntered}, loss("head")},
        {"cross-entropy of a whole head", 1, {kReplicated}, loss("whole head")},
    };
  }

  [[nodiscard]] Vars Inputs(const Case& c, const Placement& tensor) {
    Vars inputs;
    for (int i = 0; i < c.inputs; ++i) {
      inputs.push_back(test_.Constant(fmt::format("x{}", i), Input({kRows, kCols}, tensor)));
    }
    return inputs;
  }

  void Expect(const Case& c, const Vars& inputs, bool good) {
    ExecContext cx = test_.Context();
    cx.mesh = c.in_parts ? &row_parts_ : &whole_rows_;
    if (good) {
      EXPECT_NO_THROW(c.run(cx, inputs));
    } else {
      EXPECT_THROW(c.run(cx, inputs), Error);
    }
  }

 private:
  OpTest test_;
  Tensor rope_;
  Tensor targets_;
  std::unique_ptr<Communicator> world_;
  ProcessMesh whole_rows_;
  ProcessMesh row_parts_;
};

bool Contains(const std::vector<Placement>& set, const Placement& x) {
  return std::find(set.begin(), set.end(), x) != set.end();
}

TEST(PlacementTest, EveryOperationRefusesWhatItWasNotMadeFor) {
  AllOps ops;
  for (const AllOps::Case& c : ops.Cases()) {
    for (const MeshAxis axis : {MeshAxis::kData, MeshAxis::kContext, MeshAxis::kTensor}) {
      for (const Placement& given : kAll) {
        SCOPED_TRACE(::testing::Message() << c.name << ": " << NameOf(axis) << " " << given.ToString());
        const bool good =
            axis == MeshAxis::kTensor ? Contains(c.tensor, given) : given == kReplicated || given == kRowParts;
        Vars inputs = ops.Inputs(c, c.tensor.front());
        for (Var& input : inputs) {
          input.placement[axis] = given;
        }
        ops.Expect(c, inputs, good);
      }
    }
  }
}

TEST(PlacementTest, InputsThatLieDifferentlyAreRefused) {
  AllOps ops;
  for (const AllOps::Case& c : ops.Cases()) {
    for (int changed = 0; changed < c.inputs && c.inputs > 1; ++changed) {
      for (const MeshAxis axis : {MeshAxis::kData, MeshAxis::kContext, MeshAxis::kTensor}) {
        for (const Placement& given : kAll) {
          SCOPED_TRACE(::testing::Message()
                       << c.name << ", input " << changed << ": " << NameOf(axis) << " " << given.ToString());
          Vars inputs = ops.Inputs(c, c.tensor.front());
          Placement& placement = inputs[static_cast<size_t>(changed)].placement[axis];
          const bool same = placement == given;
          placement = given;
          ops.Expect(c, inputs, same);
        }
      }
    }
  }
}

TEST(PlacementTest, GradientsThatNobodyWouldSumOrSomebodyTwice) {
  ParameterSpec column = Weight("column", {3, kCols}, Placement::Sharded(0));
  ParameterSpec head = Weight("head", {5, kCols}, Placement::Sharded(0));
  column.gradient_partial_over_tensor = true;
  head.gradient_partial_over_tensor = true;
  OpTest test({column,
               head,
               Weight("good column", {3, kCols}, Placement::Sharded(0)),
               Weight("own", {2, kCols}),
               PartialWeight("partial own", {2, kCols}),
               Weight("columns of own", {2, kCols}, Placement::Sharded(1)),
               Weight("good head", {5, kCols}, Placement::Sharded(0)),
               Weight("columns of a head", {5, kCols}, Placement::Sharded(1))});
  const Var x = test.Constant("x", Input({kRows, kCols}, kEntered));
  const ExecContext cx = test.Context();
  EXPECT_NO_THROW((void)Linear(cx, x, test.Get("good column")));
  EXPECT_THROW((void)Linear(cx, x, test.Get("column")), Error);
  EXPECT_THROW((void)SplitLinear(cx, x, 2, test.Get("good column"), &test.Get("column")), Error);
  const Tensor ids = testing::Integers("ids", {kRows}, 0, 5, test.allocator());
  EXPECT_NO_THROW((void)LinearCrossEntropyLoss(cx, x, test.Get("good head"), ids, 1.0));
  EXPECT_THROW((void)LinearCrossEntropyLoss(cx, x, test.Get("head"), ids, 1.0), Error);
  const auto embed = [&](const char* table, const char* own) {
    const SummaryLayout layout = {.text_tokens = kRows, .chunk_size = 3, .summary_tokens = 2, .live_chunks = 1};
    const EmbeddingSpec spec = {
        .layout = layout, .table = &test.Get(table), .summary_table = &test.Get(own), .vocab_size = 5};
    return Embedding(cx, ids, spec);
  };
  EXPECT_EQ(embed("good head", "own").placement, Placements::Rows(kPartial));
  EXPECT_THROW((void)embed("head", "own"), Error);
  EXPECT_THROW((void)embed("columns of a head", "own"), Error);
  EXPECT_THROW((void)embed("good head", "partial own"), Error);
  EXPECT_THROW((void)embed("good head", "columns of own"), Error);
}

}  // namespace
}  // namespace ksa
