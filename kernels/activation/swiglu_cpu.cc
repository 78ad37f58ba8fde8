#include "kernels/activation/swiglu_backends.h"
#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"

namespace ksa::cpu {

template <typename T>
void SwigluForward(const SwigluForwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const T* gate = args.gate.As<T>();
  const T* up = args.up.As<T>();
  T* y = args.y.As<T>();
  ParallelRanges(stream, args.y.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const A g = static_cast<A>(gate[i]);
      y[i] = static_cast<T>(g / (A{1} + Exp(-g)) * static_cast<A>(up[i]));
    }
  });
}

template <typename T>
void SwigluBackward(const SwigluBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const T* dy = args.dy.As<T>();
  const T* gate = args.gate.As<T>();
  const T* up = args.up.As<T>();
  T* dgate = args.dgate.As<T>();
  T* dup = args.dup.As<T>();
  // Outputs may be inputs: element i is read whole before it is written, which is all that `omp simd` asks for.
  ParallelRanges(stream, args.dy.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const A g = static_cast<A>(gate[i]);
      const A d = static_cast<A>(dy[i]);
      const A u = static_cast<A>(up[i]);
      const A s = A{1} / (A{1} + Exp(-g));  // silu'(g) = s (1 + g (1 - s))
      dgate[i] = static_cast<T>(d * u * s * (A{1} + g * (A{1} - s)));
      dup[i] = static_cast<T>(d * g * s);
    }
  });
}

template void SwigluForward<double>(const SwigluForwardArgs&, const Stream&);
template void SwigluForward<float>(const SwigluForwardArgs&, const Stream&);
template void SwigluForward<BFloat16>(const SwigluForwardArgs&, const Stream&);
template void SwigluBackward<double>(const SwigluBackwardArgs&, const Stream&);
template void SwigluBackward<float>(const SwigluBackwardArgs&, const Stream&);
template void SwigluBackward<BFloat16>(const SwigluBackwardArgs&, const Stream&);

}  // namespace ksa::cpu
