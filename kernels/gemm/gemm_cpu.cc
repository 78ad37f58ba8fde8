#include <type_traits>
#include <vector>

#include "kernels/core/parallel.h"
#include "kernels/gemm/blas.h"
#include "kernels/gemm/gemm_backends.h"

namespace ksa::cpu {
namespace {

// Row-major operands of one element type.
template <typename A>
struct Operands {
  const A* a;
  const A* b;
  A* c;
};

template <typename A>
void Product(const Operands<A>& p, const GemmArgs& args, const GemmSize& size, const Stream& stream) {
  const auto m = static_cast<int>(size.m);
  const auto n = static_cast<int>(size.n);
  const auto k = static_cast<int>(size.k);
  Multiply<A>({.transpose_a = args.transpose_a,
               .transpose_b = args.transpose_b,
               .m = m,
               .n = n,
               .k = k,
               .alpha = static_cast<A>(args.alpha),
               .a = p.a,
               .lda = args.transpose_a ? m : k,
               .b = p.b,
               .ldb = args.transpose_b ? k : n,
               .beta = static_cast<A>(args.beta),
               .c = p.c,
               .ldc = n},
              stream.threads);
}

// c = beta · c, which is what a product over nothing leaves.
template <typename C>
void Scale(C* c, int64_t size, double beta) {
  using A = Accumulator<C>;
  for (int64_t i = 0; i < size; ++i) {
    c[i] = static_cast<C>(beta == 0.0 ? A{0} : static_cast<A>(beta) * static_cast<A>(c[i]));
  }
}

std::vector<float> ToFloat(const BFloat16* from, int64_t size, const Stream& stream) {
  std::vector<float> to(static_cast<size_t>(size));
  ParallelRanges(stream, size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      to[static_cast<size_t>(i)] = static_cast<float>(from[i]);
    }
  });
  return to;
}

}  // namespace

template <typename T, typename C>
void Gemm(const GemmArgs& args, const GemmSize& size, const Stream& stream) {
  const int64_t c_size = size.m * size.n;
  if (c_size == 0) {
    return;
  }
  C* c = args.c.As<C>();
  if (size.k == 0) {
    Scale(c, c_size, args.beta);
    return;
  }
  if constexpr (std::is_same_v<T, BFloat16>) {
    // The values are exact in float, so this is the product in float, rounded once.
    const std::vector<float> a = ToFloat(args.a.As<BFloat16>(), args.a.size(), stream);
    const std::vector<float> b = ToFloat(args.b.As<BFloat16>(), args.b.size(), stream);
    if constexpr (std::is_same_v<C, BFloat16>) {
      std::vector<float> wide =
          args.beta == 0.0 ? std::vector<float>(static_cast<size_t>(c_size)) : ToFloat(c, c_size, stream);
      Product<float>({a.data(), b.data(), wide.data()}, args, size, stream);
      for (int64_t i = 0; i < c_size; ++i) {
        c[i] = BFloat16(wide[static_cast<size_t>(i)]);
      }
    } else {
      Product<float>({a.data(), b.data(), c}, args, size, stream);
    }
  } else {
    Product<T>({args.a.As<T>(), args.b.As<T>(), c}, args, size, stream);
  }
}

template void Gemm<double, double>(const GemmArgs&, const GemmSize&, const Stream&);
template void Gemm<float, float>(const GemmArgs&, const GemmSize&, const Stream&);
template void Gemm<BFloat16, BFloat16>(const GemmArgs&, const GemmSize&, const Stream&);
template void Gemm<BFloat16, float>(const GemmArgs&, const GemmSize&, const Stream&);

}  // namespace ksa::cpu
