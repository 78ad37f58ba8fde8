#include <cstdint>

#include "kernels/copy/copy_backends.h"
#include "kernels/core/cuda.h"
#include "kernels/device/vector.cuh"

namespace ksa::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 4;  // of a thread, whose loads are under way together

// In words: the widest that the addresses and sizes allow.
template <typename Word>
struct Selected {
  Word* matrix;
  Word* selected;
  const int32_t* rows;
  int64_t first_row;
  int64_t count;
  int64_t columns;
};

// Threads along x go through the columns; along y, and from block to block, lie groups of kRows selected rows. Every
// word is written by one thread.
template <typename Word, bool kGather>
__global__ void __launch_bounds__(kThreads) SelectRowsKernel(const Selected<Word> p) {
  const int64_t first = (int64_t{blockIdx.x} * blockDim.y + threadIdx.y) * kRows;
  int64_t at[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    at[i] = (p.rows[min(first + i, p.count - 1)] - p.first_row) * p.columns;
  }
  for (int64_t column = threadIdx.x; column < p.columns; column += blockDim.x) {
    Word words[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int64_t row = min(first + i, p.count - 1);
      words[i] = kGather ? p.matrix[at[i] + column] : p.selected[row * p.columns + column];
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (first + i < p.count) {
        if constexpr (kGather) {
          p.selected[(first + i) * p.columns + column] = words[i];
        } else {
          p.matrix[at[i] + column] = words[i];
        }
      }
    }
  }
}

template <typename Word, bool kGather>
void SelectWords(const TensorView& matrix,
                 const RowSelection& selection,
                 const TensorView& selected,
                 const Stream& stream) {
  const Selected<Word> p = {.matrix = static_cast<Word*>(matrix.data),
                            .selected = static_cast<Word*>(selected.data),
                            .rows = selection.rows.As<int32_t>(),
                            .first_row = selection.first_row,
                            .count = selection.rows.size(),
                            .columns = matrix.cols() * SizeOf(matrix.dtype) / static_cast<int64_t>(sizeof(Word))};
  // A power of two, at most a whole block, so that few threads have no column.
  unsigned along = 1;
  while (along < kThreads && along < p.columns) {
    along *= 2;
  }
  const dim3 block(along, kThreads / along);
  const int64_t per_block = int64_t{block.y} * kRows;
  Launch(kGather ? "GatherRows" : "ScatterRows",
         stream,
         {dim3(static_cast<unsigned>((p.count + per_block - 1) / per_block)), block},
         SelectRowsKernel<Word, kGather>,
         p);
}

template <bool kGather>
void Select(const TensorView& matrix, const RowSelection& selection, const TensorView& selected, const Stream& stream) {
  const int64_t bytes = matrix.cols() * SizeOf(matrix.dtype);
  const auto made_of = [&](int64_t word) {
    return bytes % word == 0 && reinterpret_cast<uintptr_t>(matrix.data) % static_cast<uintptr_t>(word) == 0 &&
           reinterpret_cast<uintptr_t>(selected.data) % static_cast<uintptr_t>(word) == 0;
  };
  if (made_of(16)) {
    SelectWords<device::Bits<16>, kGather>(matrix, selection, selected, stream);
  } else if (made_of(4)) {
    SelectWords<device::Bits<4>, kGather>(matrix, selection, selected, stream);
  } else {
    SelectWords<device::Bits<2>, kGather>(matrix, selection, selected, stream);
  }
}

}  // namespace

void GatherRows(const TensorView& x, const RowSelection& selection, const TensorView& y, const Stream& stream) {
  Select<true>(x, selection, y, stream);
}

void ScatterRows(const TensorView& x, const RowSelection& selection, const TensorView& y, const Stream& stream) {
  Select<false>(y, selection, x, stream);
}

}  // namespace ksa::cuda
