#include <cstring>

#include "kernels/core/parallel.h"
#include "kernels/embedding/embedding_backends.h"

namespace ksa::cpu {

namespace {

// The table rows that the rows of a layout read or add to.
template <typename Args, typename T>
struct TableRows {
  const Args& args;
  T* table;
  T* summary_table;
  int64_t table_rows;
  int64_t d;
  const int32_t* ids = args.ids.template As<int32_t>();

  // Null: another part's, or none.
  [[nodiscard]] T* Of(int64_t r) const {
    const SummaryLayout& layout = args.layout;
    int64_t id = 0;
    if (r < layout.text_rows()) {
      id = ids[r];
    } else {
      const int64_t a = (r - layout.text_rows()) % layout.summary_tokens;
      if (args.summaries.first_id == SummaryStart::kOwnTable) {
        return summary_table == nullptr ? nullptr : summary_table + a * d;
      }
      id = args.summaries.first_id + a;
    }
    const int64_t row = id - args.shard.first_id;
    return row >= 0 && row < table_rows ? table + row * d : nullptr;
  }
};

}  // namespace

template <typename T>
void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream) {
  const int64_t d = args.y.cols();
  T* summary_table = args.summaries.contributes ? args.summary_table.As<T>() : nullptr;
  const TableRows<EmbeddingForwardArgs, T> rows{args, args.table.As<T>(), summary_table, args.table.rows(), d};
  const size_t bytes = static_cast<size_t>(d) * sizeof(T);
  ParallelFor(stream, args.y.rows(), d, [&](int64_t r) {
    T* to = args.y.As<T>() + r * d;
    const T* from = rows.Of(r);
    if (from != nullptr) {
      std::memcpy(to, from, bytes);
    } else {
      std::memset(to, 0, bytes);
    }
  });
}

template <typename T>
void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t n = args.dy.rows();
  const int64_t d = args.dy.cols();
  const TableRows<EmbeddingBackwardArgs, A> rows{
      args, args.dtable.As<A>(), args.dsummary_table.As<A>(), args.dtable.empty() ? 0 : args.dtable.rows(), d};
  // Each thread takes some columns of all rows, so every sum runs over the rows in ascending order.
  const int64_t slices = ThreadsFor(stream, n * d);
  ParallelFor(stream, slices, n * d / slices, [&](int64_t slice) {
    const int64_t begin = d * slice / slices;
    const int64_t end = d * (slice + 1) / slices;
    for (int64_t r = 0; r < n; ++r) {
      A* to = rows.Of(r);
      if (to == nullptr) {
        continue;
      }
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
