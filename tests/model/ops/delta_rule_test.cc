// The gated delta rule as an operation: gradients, and sequences spread over ranks against one rank.
#include "model/ops/delta_rule.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "parallel/comm/threads.h"
#include "parallel/context/slices.h"
#include "tests/support/jacobian.h"
#include "tests/support/kernel_test.h"
#include "tests/support/take_rows.h"

namespace ksa {
namespace {

using testing::GuardAllocator;
using testing::Input;
using testing::OpTest;
using testing::PartialWeight;
using testing::ToDouble;
using testing::Vars;
using testing::Weight;

constexpr int kKeyDim = 3;
constexpr int kValueDim = 4;
constexpr int64_t kKeyHeads = 2;
constexpr int64_t kValueHeads = 4;
const Placement kHeads = Placement::Sharded(1);

std::vector<ParameterSpec> GateParameters() {
  return {Weight("a_log", {kValueHeads}, Placement::Sharded(0)),
          Weight("dt_bias", {kValueHeads}, Placement::Sharded(0))};
}

GatedDeltaSpec SpecOf(ParameterStore& store, const SummaryLayout& layout, const SummaryLayout& whole) {
  return {.layout = layout,
          .whole = whole,
          .a_log = &store.Get("a_log"),
          .dt_bias = &store.Get("dt_bias"),
          .key_dim = kKeyDim,
          .value_dim = kValueDim,
          .most_write = 2.0};
}

std::vector<Shape> InputShapes(int64_t rows) {
  return {{rows, kKeyHeads * kKeyDim},
          {rows, kKeyHeads * kKeyDim},
          {rows, kValueHeads * kValueDim},
          {rows, kValueHeads},
          {rows, kValueHeads}};
}

TEST(GatedDeltaOp, Gradients) {
  const SummaryLayout layout = {.sequences = 2, .text_tokens = 7};
  OpTest test(GateParameters());
  std::vector<testing::InputSpec> inputs;
  for (const Shape& shape : InputShapes(layout.text_rows())) {
    inputs.push_back(Input(shape, kHeads));
  }
  test.ExpectGradients(inputs, [&](const ExecContext& cx, const Vars& x) {
    return GatedDelta(cx, x[0], x[1], x[2], x[3], x[4], SpecOf(test.store(), layout, layout));
  });
}

TEST(GatedDeltaOp, GatedNormGradients) {
  OpTest test({PartialWeight("w", {kValueDim})});
  const Shape shape = {5, 3 * kValueDim};
  test.ExpectGradients({Input(shape, kHeads), Input(shape, kHeads)}, [&](const ExecContext& cx, const Vars& x) {
    return GatedNorm(cx, x[0], x[1], test.Get("w"), 0.3);
  });
}

TEST(GatedDeltaOp, RefusesPlacements) {
  OpTest test({PartialWeight("partial", {kValueDim}), Weight("whole", {kValueDim})});
  const Var x = test.Constant("x", Input({5, kValueDim}, kHeads));
  const Var replicated = test.Constant("x", Input({5, kValueDim}));
  EXPECT_EQ(GatedNorm(test.Context(), x, x, test.Get("partial"), 1e-6).placement, x.placement);
  EXPECT_THROW((void)GatedNorm(test.Context(), x, x, test.Get("whole"), 1e-6), Error);
  EXPECT_THROW((void)GatedNorm(test.Context(), replicated, replicated, test.Get("partial"), 1e-6), Error);
}

struct Outputs {
  Tensor out;
  std::vector<Tensor> inputs;      // gradients
  std::vector<Tensor> parameters;  // gradients
};

// Two sequences of 53 tokens in chunks of 3; in one of them documents of 19, 1, 20 and 11 tokens, and padding.
const std::vector<int32_t> kFirstChunk = {0, 0, 0, 0, 0, 0, 0, 7, 8, 8, 8, 8, 8, 8, 8, 15, 15, 15,  //
                                          0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0};
const std::vector<int32_t> kTokens = {3, 3, 3, 3, 3, 3, 1, 1, 3, 3, 3, 3, 3, 3, 2, 3, 3, 2,  //
                                      3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2};

SummaryLayout Whole(bool documents) {
  SummaryLayout layout = {.sequences = 2, .text_tokens = 53, .chunk_size = 3};
  if (documents) {
    layout.document_first_chunk = kFirstChunk.data();
    layout.chunk_tokens = kTokens.data();
  }
  return layout;
}

Outputs Run(ExecContext cx,
            const std::vector<Tensor>& x,
            const Tensor& dout,
            const SummaryLayout& layout,
            const SummaryLayout& whole,
            DType dtype) {
  ParameterStore store(GateParameters(), dtype, *cx.allocator);
  store.Initialize(7, cx.stream);
  Tape tape;
  cx.tape = &tape;
  std::vector<Var> in;
  for (const Tensor& value : x) {
    in.push_back(Leaf(cx, value, Placements::Rows(kHeads)));
  }
  const Var out = GatedDelta(cx, in[0], in[1], in[2], in[3], in[4], SpecOf(store, layout, whole));
  tape.Backward(cx, out, dout);
  Outputs outputs = {out.value, {}, {}};
  for (const Var& var : in) {
    outputs.inputs.push_back(tape.TakeGrad(var.slot));
  }
  for (const char* name : {"a_log", "dt_bias"}) {
    outputs.parameters.push_back(testing::Clone(store.Get(name).grad, *cx.allocator));
  }
  return outputs;
}

// Relative to the largest number of the whole tensor.
void ExpectClose(const std::vector<double>& actual,
                 const std::vector<double>& expected,
                 double largest,
                 double bound,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double difference = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    difference = std::max(difference, std::abs(actual[i] - expected[i]));
  }
  EXPECT_LE(difference, bound * largest) << what;
}

double Largest(const std::vector<double>& values) {
  double largest = 0.0;
  for (const double x : values) {
    largest = std::max(largest, std::abs(x));
  }
  return largest;
}

void ExpectEqualsOneRank(bool documents, int ranks, DType dtype, double bound) {
  GuardAllocator memory;
  const SummaryLayout whole = Whole(documents);
  std::vector<Tensor> inputs;
  for (const Shape& shape : InputShapes(whole.text_rows())) {
    inputs.push_back(testing::Normal(fmt::format("x{}", inputs.size()), shape, dtype, memory));
  }
  const Tensor dout = testing::Normal("dout", {whole.text_rows(), kValueHeads * kValueDim}, dtype, memory);
  ExecContext one;
  one.allocator = &memory;
  const Outputs expected = Run(one, inputs, dout, whole, whole, dtype);
  std::vector<std::vector<std::vector<double>>> sums(static_cast<size_t>(ranks));  // by rank: parameters' gradients
  RunRanks(ranks, [&](Communicator& world) {
    GuardAllocator own;
    const ProcessMesh mesh(world, {.data = 1, .context = ranks, .tensor = 1});
    ExecContext cx;
    cx.allocator = &own;
    cx.mesh = &mesh;
    const auto rows = SegmentsOf(whole, ranks, world.rank(), false);
    std::vector<Tensor> local;
    for (const Tensor& x : inputs) {
      local.push_back(testing::TakeRows(x, rows, own));
    }
    const SummaryLayout layout = MakeLocalLayout(whole, ranks, world.rank());
    const Outputs outputs = Run(cx, local, testing::TakeRows(dout, rows, own), layout, whole, dtype);
    const auto compare = [&](const Tensor& actual, const Tensor& all, const std::string& what) {
      ExpectClose(ToDouble(actual), ToDouble(testing::TakeRows(all, rows, own)), Largest(ToDouble(all)), bound, what);
    };
    compare(outputs.out, expected.out, fmt::format("out of rank {}", world.rank()));
    for (size_t i = 0; i < outputs.inputs.size(); ++i) {
      compare(outputs.inputs[i], expected.inputs[i], fmt::format("gradient {} of rank {}", i, world.rank()));
    }
    for (const Tensor& gradient : outputs.parameters) {
      sums[static_cast<size_t>(world.rank())].push_back(ToDouble(gradient));
    }
  });
  // A head's gradients of a_log and dt_bias add up what the rows of `a` get, each of which may be off by the bound.
  const double added = static_cast<double>(whole.text_rows()) * Largest(ToDouble(expected.inputs[3]));
  for (size_t p = 0; p < expected.parameters.size(); ++p) {
    std::vector<double> sum(static_cast<size_t>(kValueHeads), 0.0);
    for (const auto& of_rank : sums) {
      for (size_t i = 0; i < sum.size(); ++i) {
        sum[i] += of_rank[p][i];
      }
    }
    ExpectClose(sum, ToDouble(expected.parameters[p]), added, bound, fmt::format("parameter {}", p));
  }
}

TEST(GatedDeltaOp, ContextRanksEqualOne) {
  for (const bool documents : {false, true}) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      SCOPED_TRACE(fmt::format("documents {}, {} ranks", documents, ranks));
      ExpectEqualsOneRank(documents, ranks, DType::kF64, 1e-12);
    }
  }
}

// One more rounding of what is stored, and states that are handed on in fp32.
TEST(GatedDeltaOp, ContextRanksEqualOneInNarrowTypes) {
  for (const bool documents : {false, true}) {
    ExpectEqualsOneRank(documents, 3, DType::kF32, 2e-5);
    ExpectEqualsOneRank(documents, 3, DType::kBF16, 0x1p-6);
  }
}

}  // namespace
}  // namespace ksa
