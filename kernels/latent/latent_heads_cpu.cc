#include <algorithm>
#include <vector>

#include "kernels/core/parallel.h"
#include "kernels/latent/latent_heads_backends.h"

namespace ksa::cpu {

template <typename T>
void RotateTails(const RotateTailsArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t h = args.x.shape[1];
  const int64_t e = args.x.shape[2];
  const int64_t half = args.table.shape[1];
  const int64_t nope = e - 2 * half;
  const A sign = args.inverse ? A{-1} : A{1};
  ParallelFor(stream, args.x.rows(), h * e, [&](int64_t row) {
    const A* angles = args.table.As<A>() + int64_t{args.layout.Position(args.first_row + row)} * half * 2;
    for (int64_t head = row * h; head < (row + 1) * h; ++head) {
      const T* x = args.x.As<T>() + head * e;
      T* y = args.y.As<T>() + head * e;
      if (x != y) {
        std::copy_n(x, nope, y);
      }
      for (int64_t i = 0; i < half; ++i) {
        const A first = static_cast<A>(x[nope + i]);
        const A second = static_cast<A>(x[nope + half + i]);
        const A cos = angles[2 * i];
        const A sin = sign * angles[2 * i + 1];
        y[nope + i] = static_cast<T>(first * cos - second * sin);
        y[nope + half + i] = static_cast<T>(second * cos + first * sin);
      }
    }
  });
}

template <typename T>
void LatentHeadsForward(const LatentHeadsForwardArgs& args, const Stream& stream) {
  const int64_t h = args.k.shape[1];
  const int64_t rope = args.rope.cols();
  const int64_t nope = args.k.shape[2] - rope;
  const int64_t values = args.v.shape[2];
  ParallelFor(stream, args.k.rows(), h * (nope + rope + values), [&](int64_t row) {
    for (int64_t head = row * h; head < (row + 1) * h; ++head) {
      const T* kv = args.kv.As<T>() + head * (nope + values);
      T* k = args.k.As<T>() + head * (nope + rope);
      std::copy_n(kv, nope, k);
      std::copy_n(args.rope.As<T>() + row * rope, rope, k + nope);
      std::copy_n(kv + nope, values, args.v.As<T>() + head * values);
    }
  });
}

template <typename T>
void LatentHeadsBackward(const LatentHeadsBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t h = args.dk.shape[1];
  const int64_t rope = args.drope.cols();
  const int64_t nope = args.dk.shape[2] - rope;
  const int64_t values = args.dv.shape[2];
  ParallelFor(stream, args.dk.rows(), h * (nope + rope + values), [&](int64_t row) {
    std::vector<A> sum(static_cast<size_t>(rope));
    for (int64_t head = row * h; head < (row + 1) * h; ++head) {
      const T* dk = args.dk.As<T>() + head * (nope + rope);
      T* dkv = args.dkv.As<T>() + head * (nope + values);
      std::copy_n(dk, nope, dkv);
      std::copy_n(args.dv.As<T>() + head * values, values, dkv + nope);
      for (int64_t i = 0; i < rope; ++i) {
        sum[static_cast<size_t>(i)] += static_cast<A>(dk[nope + i]);
      }
    }
    std::transform(sum.begin(), sum.end(), args.drope.As<T>() + row * rope, [](A x) { return static_cast<T>(x); });
  });
}

template void RotateTails<double>(const RotateTailsArgs&, const Stream&);
template void RotateTails<float>(const RotateTailsArgs&, const Stream&);
template void RotateTails<BFloat16>(const RotateTailsArgs&, const Stream&);
template void LatentHeadsForward<double>(const LatentHeadsForwardArgs&, const Stream&);
template void LatentHeadsForward<float>(const LatentHeadsForwardArgs&, const Stream&);
template void LatentHeadsForward<BFloat16>(const LatentHeadsForwardArgs&, const Stream&);
template void LatentHeadsBackward<double>(const LatentHeadsBackwardArgs&, const Stream&);
template void LatentHeadsBackward<float>(const LatentHeadsBackwardArgs&, const Stream&);
template void LatentHeadsBackward<BFloat16>(const LatentHeadsBackwardArgs&, const Stream&);

}  // namespace ksa::cpu
