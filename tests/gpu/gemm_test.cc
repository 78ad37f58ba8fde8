// Matrix products on the GPU against those on the CPU.
#include "kernels/gemm/gemm.h"

#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/core/arena.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using testing::ExpectAsAccurate;
using testing::Normal;

struct Types {
  DType in;
  DType out;
};

constexpr Types kTypes[] = {{DType::kF32, DType::kF32}, {DType::kBF16, DType::kBF16}, {DType::kBF16, DType::kF32}};

// Odd extents, single rows and columns, whole tiles, and an inner extent long enough to be split.
constexpr GemmSize kSizes[] = {{1, 1, 1},
                               {1, 7, 3},
                               {7, 1, 1033},
                               {113, 67, 129},
                               {1033, 7, 65},
                               {5, 1032, 33},
                               {128, 256, 64},
                               {200, 136, 72},
                               {64, 64, 8192},
                               {3, 5, 0}};

// Tensor cores add 16 products at a time to the sum and cut off what does not fit into fp32, always towards zero: the
// sum may lose two roundings a step, k / 8 in all, where the plain sum rounds to nearest. A thirtieth of that is
// allowed.
double Roundings(const GemmSize& size, const Types& types) {
  const bool tensor_cores = types.in == DType::kBF16 && types.out == DType::kF32;
  return tensor_cores ? 1.0 + static_cast<double>(size.k) / 8.0 / 30.0 : 1.0;
}

class GpuGemmTest : public testing::GpuTest {
 protected:
  struct Operands {
    Tensor a, b, c;  // on the host
  };

  Operands MakeOperands(const GemmSize& s, const Types& types, bool ta, bool tb) {
    return {Normal("a", ta ? Shape{s.k, s.m} : Shape{s.m, s.k}, types.in, host()),
            Normal("b", tb ? Shape{s.n, s.k} : Shape{s.k, s.n}, types.in, host()),
            Normal("c", {s.m, s.n}, types.out, host())};
  }

  // c of the CPU, computed and left in `types`.
  Tensor OnCpu(const Operands& x, const Types& types, const GemmArgs& how) {
    GemmArgs args = how;
    const Tensor a = Cast(x.a, types.in);
    const Tensor b = Cast(x.b, types.in);
    Tensor c = Cast(x.c, types.out);
    args.a = a;
    args.b = b;
    args.c = c;
    Gemm(args, {});
    return c;
  }

  void Compare(const GemmSize& s, const Types& types, const GemmArgs& how) {
    SCOPED_TRACE(fmt::format("[{}, {}, {}] {} to {}, {}{}, alpha {} beta {}",
                             s.m,
                             s.n,
                             s.k,
                             NameOf(types.in),
                             NameOf(types.out),
                             how.transpose_a ? "T" : "N",
                             how.transpose_b ? "T" : "N",
                             how.alpha,
                             how.beta));
    const Operands x = MakeOperands(s, types, how.transpose_a, how.transpose_b);
    const Tensor exact = OnCpu(x, {DType::kF64, DType::kF64}, how);
    const Tensor plain = OnCpu(x, types, how);
    const Tensor a = ToGpu(x.a);
    const Tensor b = ToGpu(x.b);
    GemmArgs args = how;
    args.a = a;
    args.b = b;
    const auto run = [&]() -> std::vector<Tensor> {
      // With beta 0 the old contents, NaN here, are not read.
      Tensor c = how.beta == 0.0 ? Tensor::Empty({s.m, s.n}, types.out, device()) : ToGpu(x.c);
      args.c = c;
      Gemm(args, stream());
      return {c};
    };
    ExpectAsAccurate(ToCpu(run().front()), plain, exact, "c", Roundings(s, types));
    ExpectRepeats(run);
  }
};

TEST_F(GpuGemmTest, AgreesWithTheCpu) {
  for (const GemmSize& size : kSizes) {
    for (const Types& types : kTypes) {
      for (const bool ta : {false, true}) {
        for (const bool tb : {false, true}) {
          Compare(size, types, {.transpose_a = ta, .transpose_b = tb});
        }
      }
    }
  }
}

// Up to four rows with a weight in bf16 have a kernel of their own.
TEST_F(GpuGemmTest, OfAFewRows) {
  for (const GemmSize& size : {GemmSize{1, 2048, 6144},
                               GemmSize{1, 1, 8},
                               GemmSize{2, 5, 8},
                               GemmSize{3, 130, 2056},
                               GemmSize{4, 67, 4104},
                               GemmSize{4, 1030, 256}}) {
    Compare(size, {DType::kBF16, DType::kBF16}, {.transpose_b = true});
  }
}

// Together the bits of each by itself: as in a step of decoding, where rows of two weights lie behind each other, more
// than one launch takes, and with a product that the kernel of few rows does not compute.
TEST_F(GpuGemmTest, TogetherAsOneByOne) {
  struct Product {
    int64_t m, n, k;
  };

  const std::vector<std::vector<Product>> calls = {
      {{1, 2048, 2048}, {1, 512, 2048}, {1, 7, 2048}},
      {{3, 64, 256}, {2, 64, 256}, {3, 5, 256}, {2, 5, 256}, {2, 5, 512}},
      {{1, 9, 8}, {1, 9, 8}, {1, 9, 8}, {1, 9, 8}, {1, 1, 8}, {1, 3, 8}, {1, 4, 8}, {1, 5, 8}, {1, 6, 8}, {1, 7, 8}},
      {{1, 64, 64}, {5, 64, 64}, {1, 64, 63}}};
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const std::vector<Product>& call : calls) {
      std::vector<Tensor> a;
      std::vector<Tensor> b;
      std::vector<Tensor> c;
      std::vector<GemmArgs> products;
      for (const Product& p : call) {
        a.push_back(ToGpu(Normal(fmt::format("a {}", a.size()), {p.m, p.k}, dtype, host())));
        b.push_back(ToGpu(Normal(fmt::format("b {}", b.size()), {p.n, p.k}, dtype, host())));
        c.push_back(Tensor::Empty({p.m, p.n}, dtype, device()));
        products.push_back({.a = a.back(), .b = b.back(), .c = c.back(), .transpose_b = true});
      }
      Gemms(products, stream());
      for (size_t i = 0; i < products.size(); ++i) {
        const Tensor alone = Tensor::Empty(c[i].shape(), dtype, device());
        products[i].c = alone;
        Gemm(products[i], stream());
        testing::ExpectSameBits(ToCpu(c[i]), ToCpu(alone), fmt::format("product {}", i));
      }
    }
  }
}

TEST_F(GpuGemmTest, ScalesAndAccumulates) {
  for (const Types& types : kTypes) {
    Compare({113, 67, 129}, types, {.alpha = -0.5, .beta = 1.0});
    Compare({200, 136, 72}, types, {.transpose_a = true, .beta = 1.0});
    Compare({64, 64, 8192}, types, {.transpose_a = true, .alpha = 2.0, .beta = 0.25});
    Compare({3, 5, 0}, types, {.beta = 0.5});
  }
}

TEST_F(GpuGemmTest, EmptyResultsAreFine) {
  for (const Types& types : kTypes) {
    Compare({0, 5, 3}, types, {});
    Compare({5, 0, 3}, types, {});
  }
}

// Rows of an odd length: views from the second row on are aligned to one element only.
TEST_F(GpuGemmTest, TakesUnalignedViews) {
  const GemmSize s{31, 45, 77};
  for (const Types& types : kTypes) {
    const Operands x = MakeOperands({s.m + 1, s.n, s.k}, types, false, false);
    const Operands part{x.a.Rows(1, s.m), x.b, x.c.Rows(1, s.m)};
    const Tensor exact = OnCpu(part, {DType::kF64, DType::kF64}, {});
    const Tensor plain = OnCpu(part, types, {});
    const Tensor a = ToGpu(x.a);
    const Tensor b = ToGpu(x.b);
    const Tensor c = ToGpu(x.c);
    Gemm({.a = a.view().Rows(1, s.m), .b = b, .c = c.view().Rows(1, s.m)}, stream());
    const Tensor result = ToCpu(c);
    ExpectAsAccurate(result.Rows(1, s.m), plain, exact, "c");
    testing::ExpectSameBits(result.Rows(0, 1), x.c.Rows(0, 1), "the row before c");
  }
}

// More kinds of products than are remembered: one that was dropped is chosen as before.
TEST_F(GpuGemmTest, PlansThatWereDroppedComeBackAlike) {
  constexpr int64_t kKinds = 600;
  const Types types{DType::kBF16, DType::kBF16};
  const Operands x = MakeOperands({kKinds, 64, 72}, types, false, false);
  const Tensor a = ToGpu(x.a);
  const Tensor b = ToGpu(x.b);
  const auto product = [&](int64_t rows) {
    Tensor c = Tensor::Empty({rows, 64}, DType::kBF16, device());
    Gemm({.a = a.view().Rows(0, rows), .b = b, .c = c}, stream());
    return c;
  };
  const Tensor first = ToCpu(product(1));
  for (int64_t rows = 2; rows <= kKinds; ++rows) {
    static_cast<void>(product(rows));
  }
  testing::ExpectSameBits(ToCpu(product(1)), first, "c");
}

TEST_F(GpuGemmTest, RefusesDoubles) {
  const Tensor x = ToGpu(Normal("x", {4, 4}, DType::kF64, host()));
  EXPECT_THROW(Gemm({.a = x, .b = x, .c = x}, stream()), Error);
}

// A dry stream touches neither memory nor a driver, so this runs on any machine.
TEST(GpuGemmDryTest, ComputesNothing) {
  const Stream dry{.device = {DeviceKind::kCuda, 0}, .dry = true};
  ImaginarySlabs slabs(dry.device);
  ArenaAllocator arena(slabs);
  const Tensor x = Tensor::Empty({8, 8}, DType::kBF16, arena);
  Gemm({.a = x, .b = x, .c = x}, dry);
}

}  // namespace
}  // namespace ksa
