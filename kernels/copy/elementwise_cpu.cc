#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels/copy/copy_backends.h"
#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"

namespace ksa::cpu {

template <typename From, typename To>
void Copy(const TensorView& from, const TensorView& to, const Stream& stream) {
  const From* x = from.As<From>();
  To* y = to.As<To>();
  ParallelRanges(stream, from.size(), [&](int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<From, To>) {
      std::memcpy(y + begin, x + begin, static_cast<size_t>(end - begin) * sizeof(To));
    } else {
      using Middle = std::conditional_t<std::is_same_v<To, BFloat16>, float, To>;
      for (int64_t i = begin; i < end; ++i) {
        y[i] = static_cast<To>(static_cast<Middle>(static_cast<Accumulator<From>>(x[i])));
      }
    }
  });
}

void Zero(const TensorView& x, const Stream& stream) {
  char* data = static_cast<char*>(x.data);
  const int64_t width = SizeOf(x.dtype);
  ParallelRanges(stream, x.size(), [&](int64_t begin, int64_t end) {
    std::memset(data + begin * width, 0, static_cast<size_t>((end - begin) * width));
  });
}

template <typename T>
void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream) {
  using A = Accumulator<T>;
  const T* left = a.As<T>();
  const T* right = b.As<T>();
  T* out = y.As<T>();
  ParallelRanges(stream, y.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      out[i] = static_cast<T>(static_cast<A>(left[i]) + static_cast<A>(right[i]));
    }
  });
}

template <typename T>
void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream) {
  using A = Accumulator<T>;
  const T* in = x.As<T>();
  T* out = y.As<T>();
  const A scale = static_cast<A>(a);
  const A keep = static_cast<A>(b);
  ParallelRanges(stream, y.size(), [&](int64_t begin, int64_t end) {
    if (keep == A{0}) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        out[i] = static_cast<T>(scale * static_cast<A>(in[i]));
      }
      return;
    }
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      out[i] = static_cast<T>(scale * static_cast<A>(in[i]) + keep * static_cast<A>(out[i]));
    }
  });
}

template <typename T>
void SumOfSquares(const TensorView& x, const TensorView& out, const Stream& stream) {
  const T* in = x.As<T>();
  std::vector<double> partials(static_cast<size_t>((x.size() + kRangeElements - 1) / kRangeElements));
  ParallelRanges(stream, x.size(), [&](int64_t begin, int64_t end) {
    const double sum = SumOf<double>(end - begin, [&](int64_t i) {
      const auto value = static_cast<double>(static_cast<Accumulator<T>>(in[begin + i]));
      return value * value;
    });
    partials[static_cast<size_t>(begin / kRangeElements)] = sum;
  });
  double total = 0.0;
  for (const double partial : partials) {
    total += partial;
  }
  out.As<double>()[0] += total;
}

// A NaN passes through: it is not less than what was found so far.
template <typename T>
void RaiseToLargest(const TensorView& x, const TensorView& out) {
  const T* in = x.As<T>();
  T largest = in[0];
  for (int64_t i = 1; i < x.size(); ++i) {
    largest = in[i] <= largest ? largest : in[i];
    if (std::isnan(largest)) {
      break;
    }
  }
  auto& to = out.As<double>()[0];
  to = static_cast<double>(largest) <= to ? to : static_cast<double>(largest);
}

template void RaiseToLargest<double>(const TensorView&, const TensorView&);
template void RaiseToLargest<float>(const TensorView&, const TensorView&);
template void Copy<double, double>(const TensorView&, const TensorView&, const Stream&);
template void Copy<double, float>(const TensorView&, const TensorView&, const Stream&);
template void Copy<double, BFloat16>(const TensorView&, const TensorView&, const Stream&);
template void Copy<float, double>(const TensorView&, const TensorView&, const Stream&);
template void Copy<float, float>(const TensorView&, const TensorView&, const Stream&);
template void Copy<float, BFloat16>(const TensorView&, const TensorView&, const Stream&);
template void Copy<BFloat16, double>(const TensorView&, const TensorView&, const Stream&);
template void Copy<BFloat16, float>(const TensorView&, const TensorView&, const Stream&);
template void Copy<BFloat16, BFloat16>(const TensorView&, const TensorView&, const Stream&);
template void Copy<int32_t, int32_t>(const TensorView&, const TensorView&, const Stream&);
template void Add<double>(const TensorView&, const TensorView&, const TensorView&, const Stream&);
template void Add<float>(const TensorView&, const TensorView&, const TensorView&, const Stream&);
template void Add<BFloat16>(const TensorView&, const TensorView&, const TensorView&, const Stream&);
template void Axpby<double>(double, const TensorView&, double, const TensorView&, const Stream&);
template void Axpby<float>(double, const TensorView&, double, const TensorView&, const Stream&);
template void Axpby<BFloat16>(double, const TensorView&, double, const TensorView&, const Stream&);
template void SumOfSquares<double>(const TensorView&, const TensorView&, const Stream&);
template void SumOfSquares<float>(const TensorView&, const TensorView&, const Stream&);
template void SumOfSquares<BFloat16>(const TensorView&, const TensorView&, const Stream&);

}  // namespace ksa::cpu
