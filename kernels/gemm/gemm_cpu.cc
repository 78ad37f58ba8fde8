#include "kernels/gemm/gemm_cpu.h"

#include <type_traits>
#include <vector>

#include <cblas.h>
#include <omp.h>

#include "kernels/core/parallel.h"

namespace ksa::cpu {
namespace {

// OpenBLAS's OpenMP build takes as many threads as the calling thread's next parallel region would: that setting
// belongs to the calling thread alone, and is put back.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(omp_get_max_threads()) {
    if (threads != before_) {
      omp_set_num_threads(threads);
    }
  }

  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

  ~ThreadCount() {
    if (omp_get_max_threads() != before_) {
      omp_set_num_threads(before_);
    }
  }

 private:
  int before_;
};

// Row-major operands of one element type.
template <typename A>
struct Product {
  const A* a;
  const A* b;
  A* c;
};

template <typename A>
void Multiply(const Product<A>& p, const GemmArgs& args, const GemmSize& size, const Stream& stream) {
  const ThreadCount threads(stream.threads);
  const CBLAS_TRANSPOSE ta = args.transpose_a ? CblasTrans : CblasNoTrans;
  const CBLAS_TRANSPOSE tb = args.transpose_b ? CblasTrans : CblasNoTrans;
  const auto m = static_cast<int>(size.m);
  const auto n = static_cast<int>(size.n);
  const auto k = static_cast<int>(size.k);
  const int lda = args.transpose_a ? m : k;
  const int ldb = args.transpose_b ? k : n;
  if constexpr (std::is_same_v<A, double>) {
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, args.alpha, p.a, lda, p.b, ldb, args.beta, p.c, n);
  } else {
    const auto alpha = static_cast<float>(args.alpha);
    const auto beta = static_cast<float>(args.beta);
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, p.a, lda, p.b, ldb, beta, p.c, n);
  }
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
      Multiply<float>({a.data(), b.data(), wide.data()}, args, size, stream);
      for (int64_t i = 0; i < c_size; ++i) {
        c[i] = BFloat16(wide[static_cast<size_t>(i)]);
      }
    } else {
      Multiply<float>({a.data(), b.data(), c}, args, size, stream);
    }
  } else {
    Multiply<T>({args.a.As<T>(), args.b.As<T>(), c}, args, size, stream);
  }
}

template void Gemm<double, double>(const GemmArgs&, const GemmSize&, const Stream&);
template void Gemm<float, float>(const GemmArgs&, const GemmSize&, const Stream&);
template void Gemm<BFloat16, BFloat16>(const GemmArgs&, const GemmSize&, const Stream&);
template void Gemm<BFloat16, float>(const GemmArgs&, const GemmSize&, const Stream&);

}  // namespace ksa::cpu
