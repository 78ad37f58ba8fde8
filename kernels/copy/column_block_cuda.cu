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
struct Rows {
  const Word* from;
  Word* to;
  int64_t from_pitch;
  int64_t to_pitch;
  int64_t rows;
  int64_t columns;
};

// Threads along x go through the columns; along y, and from block to block, lie groups of kRows rows.
template <typename Word>
__global__ void __launch_bounds__(kThreads) CopyBlockKernel(const Rows<Word> p) {
  const int64_t first = (int64_t{blockIdx.x} * blockDim.y + threadIdx.y) * kRows;
  for (int64_t column = threadIdx.x; column < p.columns; column += blockDim.x) {
    Word words[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      words[i] = p.from[min(first + i, p.rows - 1) * p.from_pitch + column];
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (first + i < p.rows) {
        p.to[(first + i) * p.to_pitch + column] = words[i];
      }
    }
  }
}

// The block as bytes.
struct Bytes {
  char* data;
  int64_t pitch;
  int64_t columns;

  explicit Bytes(const ColumnBlock& block)
      : data(static_cast<char*>(block.rows.data) + block.first * SizeOf(block.rows.dtype)),
        pitch(block.rows.cols() * SizeOf(block.rows.dtype)),
        columns(block.columns * SizeOf(block.rows.dtype)) {}

  [[nodiscard]] bool IsMadeOf(int64_t word) const {
    return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(word) == 0 && pitch % word == 0 &&
           columns % word == 0;
  }
};

template <typename Word>
void CopyWords(const Bytes& from, const Bytes& to, int64_t rows, const Stream& stream) {
  constexpr auto kWord = static_cast<int64_t>(sizeof(Word));
  const Rows<Word> p = {.from = reinterpret_cast<const Word*>(from.data),
                        .to = reinterpret_cast<Word*>(to.data),
                        .from_pitch = from.pitch / kWord,
                        .to_pitch = to.pitch / kWord,
                        .rows = rows,
                        .columns = from.columns / kWord};
  // A power of two, at most a whole block, so that few threads have no column.
  unsigned along = 1;
  while (along < kThreads && along < p.columns) {
    along *= 2;
  }
  const dim3 block(along, kThreads / along);
  const int64_t per_block = int64_t{block.y} * kRows;
  Launch("CopyBlock",
         stream,
         {dim3(static_cast<unsigned>((rows + per_block - 1) / per_block)), block},
         CopyBlockKernel<Word>,
         p);
}

}  // namespace

void CopyBlock(const ColumnBlock& from, const ColumnBlock& to, const Stream& stream) {
  const Bytes source(from);
  const Bytes target(to);
  const int64_t rows = from.rows.rows();
  const auto both = [&](int64_t word) { return source.IsMadeOf(word) && target.IsMadeOf(word); };
  if (both(16)) {
    CopyWords<device::Bits<16>>(source, target, rows, stream);
  } else if (both(4)) {
    CopyWords<device::Bits<4>>(source, target, rows, stream);
  } else {
    CopyWords<device::Bits<2>>(source, target, rows, stream);
  }
}

}  // namespace ksa::cuda
