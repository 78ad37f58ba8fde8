#include "kernels/gemm/blas.h"

#include <dlfcn.h>

#include <algorithm>
#include <type_traits>

#include <cblas.h>
#include <omp.h>

#include "kernels/core/address_space.h"
#include "kernels/core/error.h"

namespace ksa::cpu {
namespace {

// What OpenBLAS maps: a buffer for every core when it is opened, for every thread beyond them when a product has more,
// and for the caller. It tries again without end where it gets none, so one has to ask first.
constexpr int64_t kBufferBytes = (int64_t{128} << 20) + 4096;
constexpr int64_t kLibraryBytes = int64_t{64} << 20;  // itself, with what it depends on
constexpr int kMostThreads = 128;                     // that a build serves; Debian's has 64

void CheckRoom(int threads) {
  const int served = std::min(kMostThreads, std::max(threads, omp_get_num_procs()));
  CheckAddressSpace((served + 1) * kBufferBytes + kLibraryBytes,
                    fmt::format("OpenBLAS, for {} threads or cores (run.threads, taskset),", served));
}

// The library's functions.
struct Blas {
  explicit Blas(int threads) {
    CheckRoom(threads);
    library = dlopen(KSA_OPENBLAS, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      Fail(ExitCode::kMissingInput,
           "matrix products on the CPU need OpenBLAS: {}; install libopenblas0-openmp",
           dlerror());
    }
    sgemm = Find<decltype(sgemm)>("cblas_sgemm");
    dgemm = Find<decltype(dgemm)>("cblas_dgemm");
  }

  template <typename Function>
  [[nodiscard]] Function Find(const char* name) const {
    void* function = dlsym(library, name);
    KSA_CHECK(function != nullptr, "{} has no function {}", KSA_OPENBLAS, name);
    return reinterpret_cast<Function>(function);  // NOLINT: what dlsym is for
  }

  void* library = nullptr;  // stays open until the process ends
  decltype(&cblas_sgemm) sgemm = nullptr;
  decltype(&cblas_dgemm) dgemm = nullptr;
};

const Blas& OpenBlas(int threads) {
  static const Blas blas(threads);
  return blas;
}

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

}  // namespace

template <typename A>
void Multiply(const BlasProduct<A>& p, int threads) {
  const Blas& blas = OpenBlas(threads);
  const ThreadCount count(threads);
  const CBLAS_TRANSPOSE ta = p.transpose_a ? CblasTrans : CblasNoTrans;
  const CBLAS_TRANSPOSE tb = p.transpose_b ? CblasTrans : CblasNoTrans;
  const auto multiply = [&blas] {
    if constexpr (std::is_same_v<A, double>) {
      return blas.dgemm;
    } else {
      return blas.sgemm;
    }
  }();
  multiply(CblasRowMajor, ta, tb, p.m, p.n, p.k, p.alpha, p.a, p.lda, p.b, p.ldb, p.beta, p.c, p.ldc);
}

template void Multiply<double>(const BlasProduct<double>&, int);
template void Multiply<float>(const BlasProduct<float>&, int);

}  // namespace ksa::cpu
