#include <algorithm>
#include <vector>

#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/latent/latent_heads_backends.h"

namespace ksa::cpu {

template <typename T>
void AbsorbQueries(const AbsorbQueriesArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t h = args.q.shape[1];
  const int64_t e = args.q.shape[2];
  const int64_t d = args.weight.shape[2];
  const int64_t out = args.y.shape[2];
  const int64_t nope = e - (out - d);
  ParallelFor(stream, args.q.rows() * h, nope * d, [&](int64_t i) {
    const T* q = args.q.As<T>() + i * e;
    const T* weight = args.weight.As<T>() + i % h * args.weight.shape[1] * d;
    T* y = args.y.As<T>() + i * out;
    std::vector<A> sum(static_cast<size_t>(d));
    for (int64_t a = 0; a < nope; ++a) {
      const A x = static_cast<A>(q[a]);
      const T* row = weight + a * d;
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) {
        sum[static_cast<size_t>(j)] += x * static_cast<A>(row[j]);
      }
    }
    std::transform(sum.begin(), sum.end(), y, [](A x) { return static_cast<T>(x); });
    std::copy_n(q + nope, e - nope, y + d);
  });
}

template <typename T>
void ExpandValues(const ExpandValuesArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t h = args.x.shape[1];
  const int64_t d = args.x.shape[2];
  const int64_t c = args.y.shape[2];
  const int64_t nope = args.weight.shape[1] - c;
  ParallelFor(stream, args.x.rows() * h, c * d, [&](int64_t i) {
    const T* x = args.x.As<T>() + i * d;
    const T* weight = args.weight.As<T>() + (i % h * args.weight.shape[1] + nope) * d;
    T* y = args.y.As<T>() + i * c;
    for (int64_t b = 0; b < c; ++b) {
      const T* row = weight + b * d;
      y[b] = static_cast<T>(SumOf<A>(d, [&](int64_t j) { return static_cast<A>(x[j]) * static_cast<A>(row[j]); }));
    }
  });
}

template void AbsorbQueries<double>(const AbsorbQueriesArgs&, const Stream&);
template void AbsorbQueries<float>(const AbsorbQueriesArgs&, const Stream&);
template void AbsorbQueries<BFloat16>(const AbsorbQueriesArgs&, const Stream&);
template void ExpandValues<double>(const ExpandValuesArgs&, const Stream&);
template void ExpandValues<float>(const ExpandValuesArgs&, const Stream&);
template void ExpandValues<BFloat16>(const ExpandValuesArgs&, const Stream&);

}  // namespace ksa::cpu
