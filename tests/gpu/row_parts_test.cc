#include "kernels/copy/row_parts.h"

#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/copy/elementwise.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using GpuRowParts = testing::GpuTest;

// The same additions in the same order as on the CPU: the same bits. Vectors of 16 bytes and single elements; more
// parts than a launch takes.
TEST_F(GpuRowParts, SumsLikeTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t columns : {1, 24, 128, 203}) {
      for (const int count : {0, 1, 5, 60}) {
        SCOPED_TRACE(fmt::format("{} parts of {} columns of {}", count, columns, NameOf(dtype)));
        const int64_t rows = 77;
        std::vector<Tensor> held;
        std::vector<RowPart> on_host;
        std::vector<RowPart> on_gpu;
        for (int p = 0; p < count; ++p) {
          const int64_t first = p * 7 % 50;
          const int64_t n = p == 0 ? rows : p * 5 % 27;
          held.push_back(testing::Normal(fmt::format("{}", p), {n, columns}, dtype, host()));
          on_host.push_back({held.back(), p == 0 ? 0 : first});
          held.push_back(ToGpu(held.back()));
          on_gpu.push_back({held.back(), on_host.back().first});
        }
        const Tensor expected = Tensor::Empty({rows, columns}, dtype, host());
        SumRowParts(on_host, expected, {});
        const Tensor y = ToGpu(expected);
        Zero(y, stream());
        SumRowParts(on_gpu, y, stream());
        testing::ExpectSameBits(ToCpu(y), expected, "y");
      }
    }
  }
}

}  // namespace
}  // namespace ksa
