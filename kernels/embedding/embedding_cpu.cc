#include "kernels/embedding/embedding_cpu.h"

#include <cstring>

#include "kernels/core/parallel.h"

namespace ksa::cpu {

template <typename T>
void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream) {
  const int64_t d = args.y.cols();
  const int64_t text_rows = args.layout.text_rows();
  const int32_t* ids = args.ids.As<int32_t>();
  ParallelFor(stream, args.y.rows(), d, [&](int64_t r) {
    const T* from = r < text_rows ? args.table.As<T>() + ids[r] * d
                                  : args.summary_table.As<T>() + (r - text_rows) % args.layout.summary_tokens * d;
    std::memcpy(args.y.As<T>() + r * d, from, static_cast<size_t>(d) * sizeof(T));
  });
}

template <typename T>
void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t n = args.dy.rows();
  const int64_t d = args.dy.cols();
  const int64_t text_rows = args.layout.text_rows();
  const int32_t* ids = args.ids.As<int32_t>();
  const int64_t last = args.dsummary_table.empty() ? text_rows : n;
  // Each thread takes some columns of all rows, so every sum runs over the rows in ascending order.
  const int64_t slices = ThreadsFor(stream, n * d);
  ParallelFor(stream, slices, n * d / slices, [&](int64_t slice) {
    const int64_t begin = d * slice / slices;
    const int64_t end = d * (slice + 1) / slices;
    for (int64_t r = 0; r < last; ++r) {
      A* to = r < text_rows ? args.dtable.As<A>() + ids[r] * d
                            : args.dsummary_table.As<A>() + (r - text_rows) % args.layout.summary_tokens * d;
      const T* from = args.dy.As<T>() + r * d;
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        to[i] += static_cast<A>(from[i]);
      }
    }
  });
}

template void EmbeddingForward<double>(const EmbeddingForwardArgs&, const Stream&);
template void EmbeddingForward<float>(const EmbeddingForwardArgs&, const Stream&);
template void EmbeddingForward<BFloat16>(const EmbeddingForwardArgs&, const Stream&);
template void EmbeddingBackward<double>(const EmbeddingBackwardArgs&, const Stream&);
template void EmbeddingBackward<float>(const EmbeddingBackwardArgs&, const Stream&);
template void EmbeddingBackward<BFloat16>(const EmbeddingBackwardArgs&, const Stream&);

}  // namespace ksa::cpu
