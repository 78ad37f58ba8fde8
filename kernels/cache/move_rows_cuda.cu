#include <cstdint>

#include "kernels/cache/cache_backends.h"
#include "kernels/core/cuda.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda {
namespace {

constexpr int kThreads = 256;

// Rows of `words` elements of type Word.
template <typename Word>
__global__ void __launch_bounds__(kThreads) MoveRowsKernel(
    const Word* from, const int32_t* from_rows, Word* to, const int32_t* to_rows, int64_t rows, int64_t words) {
  device::WaitForKernelBefore();
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < rows * words; i += stride) {
    const int64_t row = i / words;
    const int64_t at = i - row * words;
    const int64_t source = from_rows == nullptr ? row : from_rows[row];
    const int64_t target = to_rows == nullptr ? row : to_rows[row];
    to[target * words + at] = from[source * words + at];
  }
}

template <typename Word>
void Move(const MoveRowsArgs& args, int64_t rows, int64_t row_bytes, const Stream& stream) {
  const auto words = row_bytes / static_cast<int64_t>(sizeof(Word));
  const int64_t blocks = (rows * words + kThreads - 1) / kThreads;
  Launch("MoveRows",
         stream,
         {.grid = dim3(static_cast<unsigned>(blocks < 4096 ? blocks : 4096)), .block = dim3(kThreads), .early = true},
         MoveRowsKernel<Word>,
         static_cast<const Word*>(args.from.data),
         args.from_rows.As<int32_t>(),
         static_cast<Word*>(args.to.data),
         args.to_rows.As<int32_t>(),
         rows,
         words);
}

}  // namespace

void MoveRows(const MoveRowsArgs& args, int64_t rows, const Stream& stream) {
  const int64_t row_bytes = args.from.cols() * SizeOf(args.from.dtype);
  const bool aligned = device::IsAligned16(args.from.data) && device::IsAligned16(args.to.data);
  if (aligned && row_bytes % 16 == 0) {
    Move<uint4>(args, rows, row_bytes, stream);
  } else if (row_bytes % 4 == 0 && SizeOf(args.from.dtype) >= 4) {
    Move<uint32_t>(args, rows, row_bytes, stream);
  } else {
    Move<uint16_t>(args, rows, row_bytes, stream);
  }
}

}  // namespace ksa::cuda
