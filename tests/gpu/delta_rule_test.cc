// The gated delta rule and what stands around it, against the CPU.
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/delta_rule/delta_gates.h"
#include "kernels/delta_rule/gated_delta_rule.h"
#include "kernels/delta_rule/gated_norm.h"
#include "kernels/delta_rule/l2_norm.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using testing::ElementAt;
using testing::ExpectAsAccurate;
using testing::Normal;
using testing::SetElement;

struct Case {
  int32_t sequences;
  int32_t tokens;
  int32_t chunk_size;
  int64_t key_heads;
  int64_t value_heads;
  int64_t dk;
  int64_t dv;
  double decay;                    // of g, on the average
  std::vector<int32_t> documents;  // lengths, one after the other; empty: one document
  bool goes_on;                    // from a state, and a gradient comes back from behind
  bool two_slices;
};

const std::vector<Case> kCases = {
    {1, 1, 1, 1, 1, 1, 1, 0.5, {}, true, false},
    {2, 63, 1, 1, 3, 8, 5, 0.5, {}, true, false},
    {1, 64, 4, 2, 2, 64, 32, 0.01, {}, true, false},
    {2, 65, 4, 2, 4, 65, 33, 3.0, {}, false, false},
    {1, 150, 1, 1, 2, 128, 130, 0.1, {}, true, false},
    {1, 200, 8, 1, 1, 17, 64, 30.0, {}, true, true},
    {2, 140, 4, 2, 2, 24, 40, 0.3, {11, 1, 70, 26}, false, false},
    {1, 113, 1, 1, 2, 9, 3, 0.2, {5, 64, 3}, true, false},
    {1, 156, 4, 1, 1, 128, 128, 0.05, {40, 90}, true, true},
};

// What comes out of both passes and the transition.
using Results = std::vector<std::pair<std::string, Tensor>>;

// Tensors of a call, all in the memory of one device.
struct Inputs {
  Tensor q, k, v, g, beta, dout, initial, dfinal;
  Tensor first_chunk, chunk_tokens;
};

class GpuDeltaRule : public testing::GpuTest {
 protected:
  [[nodiscard]] static SummaryLayout LayoutOf(const Case& c, const Inputs& in) {
    SummaryLayout layout = {.sequences = c.sequences, .text_tokens = c.tokens, .chunk_size = c.chunk_size};
    if (c.goes_on) {  // the rows that are here follow a chunk that is not
      layout.total_tokens = c.tokens + 3 * c.chunk_size;
      layout.first_chunk = 1;
    }
    if (c.two_slices) {
      layout.run_chunks = layout.chunks() / 3;
      layout.second_chunk = layout.first_chunk + layout.run_chunks + 1;
    }
    if (!c.documents.empty()) {
      layout.document_first_chunk = in.first_chunk.As<int32_t>();
      layout.chunk_tokens = in.chunk_tokens.As<int32_t>();
    }
    return layout;
  }

  // The tables of the documents; the last one's last chunks are padding.
  void AddDocuments(const Case& c, Inputs& in) {
    const int32_t chunks = LayoutOf(c, in).total_chunks();
    const auto table = [&] { return Tensor::Zeros({int64_t{1} * c.sequences * chunks}, DType::kI32, host()); };
    in.first_chunk = table();
    in.chunk_tokens = table();
    for (int32_t s = 0; s < c.sequences; ++s) {
      int32_t chunk = 0;
      const auto add = [&](int32_t first, int32_t tokens) {
        in.first_chunk.As<int32_t>()[s * chunks + chunk] = first;
        in.chunk_tokens.As<int32_t>()[s * chunks + chunk] = tokens;
        ++chunk;
      };
      for (const int32_t length : c.documents) {
        const int32_t first = chunk;
        for (int32_t left = length; left > 0 && chunk < chunks; left -= c.chunk_size) {
          add(first, std::min(left, c.chunk_size));
        }
      }
      while (chunk < chunks) {
        add(chunk, 0);
      }
    }
  }

  [[nodiscard]] Inputs MakeInputs(const Case& c, DType dtype) {
    Inputs in;
    if (!c.documents.empty()) {
      AddDocuments(c, in);
    }
    const SummaryLayout layout = LayoutOf(c, in);
    const int64_t n = layout.text_rows();
    const DType exact = AccumulationType(dtype);
    const Shape keys = {n, c.key_heads, c.dk};
    const Shape values = {n, c.value_heads, c.dv};
    in.q = Normal("q", keys, dtype, host());
    in.k = Normal("k", keys, dtype, host());
    L2NormForward({.x = in.k, .y = in.k}, {});
    in.v = Normal("v", values, dtype, host());
    in.dout = Normal("dout", values, dtype, host());
    in.g = Normal("g", {n, c.value_heads}, exact, host());
    in.beta = Normal("beta", {n, c.value_heads}, exact, host());
    for (int64_t i = 0; i < in.g.size(); ++i) {
      SetElement(in.g, i, -c.decay * std::exp(ElementAt(in.g, i)));
      SetElement(in.beta, i, 2.0 / (1.0 + std::exp(ElementAt(in.beta, i))));
    }
    if (c.goes_on) {
      const Shape state = {SliceCount(layout), c.value_heads, c.dk, c.dv};
      in.initial = Normal("initial", state, exact, host());
      in.dfinal = Normal("dfinal", state, exact, host());
    }
    return in;
  }

  static Inputs Mapped(const Inputs& in, const std::function<Tensor(const TensorView&)>& map) {
    return {map(in.q),
            map(in.k),
            map(in.v),
            map(in.g),
            map(in.beta),
            map(in.dout),
            map(in.initial),
            map(in.dfinal),
            map(in.first_chunk),
            map(in.chunk_tokens)};
  }

  static Results Run(const Case& c, const Inputs& in, Allocator& memory, const Stream& stream) {
    const SummaryLayout layout = LayoutOf(c, in);
    const DType exact = AccumulationType(in.q.dtype());
    const auto like = [&](const Tensor& x) { return Tensor::Empty(x.shape(), x.dtype(), memory); };
    const auto state = [&](int64_t columns) {
      return Tensor::Empty({SliceCount(layout), c.value_heads, c.dk, columns}, exact, memory);
    };
    Results results = {{"out", like(in.v)},
                       {"final state", state(c.dv)},
                       {"transition", state(c.dk)},
                       {"dq", like(in.q)},
                       {"dk", like(in.k)},
                       {"dv", like(in.v)},
                       {"dg", like(in.g)},
                       {"dbeta", like(in.beta)},
                       {"dinitial", state(c.dv)},
                       {"dinitial alone", state(c.dv)},
                       {"final state alone", state(c.dv)}};
    const auto at = [&](size_t i) { return results[i].second.view(); };
    GatedDeltaRuleForwardArgs forward = {.q = in.q,
                                         .k = in.k,
                                         .v = in.v,
                                         .g = in.g,
                                         .beta = in.beta,
                                         .initial_state = in.initial,
                                         .out = at(0),
                                         .final_state = at(1),
                                         .layout = layout,
                                         .allocator = &memory};
    GatedDeltaRuleForward(forward, stream);
    forward.out = {};
    forward.final_state = at(10);
    GatedDeltaRuleForward(forward, stream);
    GatedDeltaRuleTransition(
        {.k = in.k, .g = in.g, .beta = in.beta, .transition = at(2), .layout = layout, .allocator = &memory}, stream);
    GatedDeltaRuleBackwardArgs backward = {.q = in.q,
                                           .k = in.k,
                                           .v = in.v,
                                           .g = in.g,
                                           .beta = in.beta,
                                           .initial_state = in.initial,
                                           .dout = in.dout,
                                           .dfinal_state = in.dfinal,
                                           .dq = at(3),
                                           .dk = at(4),
                                           .dv = at(5),
                                           .dg = at(6),
                                           .dbeta = at(7),
                                           .dinitial_state = at(8),
                                           .layout = layout,
                                           .allocator = &memory};
    GatedDeltaRuleBackward(backward, stream);
    backward.dq = {};
    backward.dinitial_state = at(9);
    GatedDeltaRuleBackward(backward, stream);
    return results;
  }

  // fp32: the up to 48 additions of a tensor core in a sum of 128 products drop what lies below their last bit, a unit
  // in the last place (two roundings) at most each. Numbers kept in fp32 of a bf16 run: a rounding to bf16, for factors
  // are rounded to the 11 bits of tf32.
  static double UnitsOf(DType of_run, const Tensor& x) {
    if (of_run == DType::kF32) {
      return 64.0;
    }
    return testing::UnitRoundoff(DType::kBF16) / testing::UnitRoundoff(x.dtype());
  }
};

TEST_F(GpuDeltaRule, IsAsAccurateAsTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (size_t i = 0; i < kCases.size(); ++i) {
      const Case& c = kCases[i];
      SCOPED_TRACE(fmt::format("case {}, {}", i, NameOf(dtype)));
      const Inputs in = MakeInputs(c, dtype);
      const Inputs wide = Mapped(in, [&](const TensorView& x) {
        return Cast(x, x.empty() || x.dtype == DType::kI32 ? x.dtype : DType::kF64);
      });
      const Inputs there = Mapped(in, [&](const TensorView& x) { return ToGpu(x); });
      const Results exact = Run(c, wide, host(), {});
      const Results plain = Run(c, in, host(), {});
      const Results actual = Run(c, there, device(), stream());
      for (size_t r = 0; r < actual.size(); ++r) {
        const Tensor x = ToCpu(actual[r].second);
        ExpectAsAccurate(x, plain[r].second, exact[r].second, actual[r].first, UnitsOf(dtype, x));
      }
    }
  }
}

TEST_F(GpuDeltaRule, RepeatsInBits) {
  for (const size_t i : {size_t{4}, size_t{8}}) {
    const Inputs there = Mapped(MakeInputs(kCases[i], DType::kBF16), [&](const TensorView& x) { return ToGpu(x); });
    ExpectRepeats([&] {
      std::vector<Tensor> outputs;
      for (auto& [name, x] : Run(kCases[i], there, device(), stream())) {
        outputs.push_back(std::move(x));
      }
      return outputs;
    });
  }
}

TEST_F(GpuDeltaRule, StateStep) {
  for (const auto& [dk, dv] : {std::pair<int64_t, int64_t>{1, 1}, {17, 33}, {128, 64}}) {
    for (const bool transposed : {false, true}) {
      const Shape square = {3, dk, dk};
      const Shape shape = {3, dk, dv};
      const auto run = [&](DType dtype, Allocator& memory, const Stream& on, const auto& map) {
        const Tensor transition = map(Cast(Normal("transition", square, DType::kF32, host()), dtype));
        const Tensor state = map(Cast(Normal("state", shape, DType::kF32, host()), dtype));
        const Tensor add = map(Cast(Normal("add", shape, DType::kF32, host()), dtype));
        Tensor out = Tensor::Empty(shape, dtype, memory);
        DeltaStateStep({.transition = transition, .state = state, .add = add, .out = out, .transposed = transposed},
                       on);
        return out;
      };
      const auto same = [&](const Tensor& x) { return Cast(x, x.dtype()); };
      const Tensor exact = run(DType::kF64, host(), {}, same);
      const Tensor plain = run(DType::kF32, host(), {}, same);
      const Tensor actual = run(DType::kF32, device(), stream(), [&](const Tensor& x) { return ToGpu(x); });
      ExpectAsAccurate(ToCpu(actual), plain, exact, "state");
    }
  }
}

// Gates, lengths and the gated norm: outputs of `run` for rows, heads and columns that divide nothing.
TEST_F(GpuDeltaRule, WhatStandsAroundIt) {
  struct Rows {
    int64_t n, heads, e;
  };

  const auto run =
      [&](const Rows& r, DType dtype, DType parameters, Allocator& memory, const Stream& on, const auto& map) {
        const DType exact = AccumulationType(dtype);
        const auto normal = [&](const char* name, const Shape& shape, DType in) {
          return map(Cast(Cast(Normal(name, shape, DType::kF32, host()), DType::kBF16), in));
        };
        const Shape rows = {r.n, r.heads, r.e};
        const Shape numbers = {r.n, r.heads};
        const auto empty = [&](const Shape& shape, DType in) { return Tensor::Empty(shape, in, memory); };
        const Tensor x = normal("x", rows, dtype);
        const Tensor z = normal("z", rows, dtype);
        const Tensor dy = normal("dy", rows, dtype);
        const Tensor weight = normal("weight", {r.e}, dtype);
        const Tensor a = normal("a", numbers, dtype);
        const Tensor b = normal("b", numbers, dtype);
        const Tensor a_log = normal("a_log", {r.heads}, parameters);
        const Tensor bias = normal("bias", {r.heads}, parameters);
        const Tensor dg = normal("dg", numbers, exact);
        const Tensor dbeta = normal("dbeta", numbers, exact);
        Results results;
        const auto out = [&](const char* name, const Shape& shape, DType in) {
          results.emplace_back(name, empty(shape, in));
          return results.back().second.view();
        };
        L2NormForward({.x = x, .y = out("l2", rows, dtype)}, on);
        L2NormBackward({.x = x, .dy = dy, .dx = out("l2 dx", rows, dtype)}, on);
        const TensorView g = out("g", numbers, exact);
        DeltaGatesForward(
            {.a = a, .b = b, .a_log = a_log, .dt_bias = bias, .g = g, .beta = out("beta", numbers, exact), .most = 2.0},
            on);
        const TensorView da = out("da", numbers, dtype);
        const TensorView db = out("db", numbers, dtype);
        const TensorView da_log = out("da_log", {r.heads}, exact);
        const TensorView dbias = out("ddt_bias", {r.heads}, exact);
        for (const bool accumulate : {false, true}) {
          DeltaGatesBackward({.a = a,
                              .b = b,
                              .a_log = a_log,
                              .dt_bias = bias,
                              .dg = dg,
                              .dbeta = dbeta,
                              .da = da,
                              .db = db,
                              .da_log = da_log,
                              .ddt_bias = dbias,
                              .most = 2.0,
                              .accumulate_a_log = accumulate,
                              .accumulate_dt_bias = false,
                              .allocator = &memory},
                             on);
        }
        GatedNormForward({.x = x, .z = z, .weight = weight, .y = out("normed", rows, dtype)}, on);
        const TensorView dx = out("norm dx", rows, dtype);
        const TensorView dz = out("norm dz", rows, dtype);
        const TensorView dweight = out("dweight", {r.e}, exact);
        for (const bool accumulate : {false, true}) {
          GatedNormBackward({.x = x,
                             .z = z,
                             .weight = weight,
                             .dy = dy,
                             .dx = dx,
                             .dz = dz,
                             .dweight = dweight,
                             .accumulate = accumulate,
                             .allocator = &memory},
                            on);
        }
        return results;
      };
  const auto same = [&](const Tensor& x) { return Cast(x, x.dtype()); };
  const auto there = [&](const Tensor& x) { return ToGpu(x); };
  for (const Rows& r : {Rows{1, 1, 1}, Rows{113, 3, 33}, Rows{70, 40, 128}, Rows{5000, 2, 17}}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const DType parameters : {dtype, DType::kF32}) {
        SCOPED_TRACE(fmt::format("{} x {} x {}, {}", r.n, r.heads, r.e, NameOf(dtype)));
        const Results exact = run(r, DType::kF64, DType::kF64, host(), {}, same);
        const Results plain = run(r, dtype, parameters, host(), {}, same);
        const Results actual = run(r, dtype, parameters, device(), stream(), there);
        for (size_t i = 0; i < actual.size(); ++i) {
          // Functions of a GPU are off by a few units, and sums over thousands of rows cancel in part.
          ExpectAsAccurate(ToCpu(actual[i].second),
                           plain[i].second,
                           exact[i].second,
                           actual[i].first,
                           actual[i].second.dtype() == DType::kF32 ? 32.0 : 1.0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ksa
