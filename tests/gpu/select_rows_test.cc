#include "kernels/copy/select_rows.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/gpu/support.h"

namespace ksa {
namespace {

using GpuSelectRows = testing::GpuTest;

// 16, 4 and 2 bytes at a time; fewer columns than threads, and more.
TEST_F(GpuSelectRows, LikeOnTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t columns : {1, 2, 24, 128, 4096}) {
      for (const int64_t step : {1, 2, 7, 5000}) {
        SCOPED_TRACE(fmt::format("every {}th of 1031 rows of {} columns, {}", step, columns, NameOf(dtype)));
        const int64_t count = (1031 + step - 1) / step;
        const Tensor rows = testing::Integers("rows", {count}, 0, 1, host());
        for (int64_t i = 0; i < count; ++i) {
          rows.As<int32_t>()[i] = static_cast<int32_t>(50 + i * step);
        }
        const Tensor x = testing::Normal("x", {1031, columns}, dtype, host());
        const Tensor picked = Tensor::Empty({count, columns}, dtype, host());
        const Tensor back = Tensor::Empty({1031, columns}, dtype, host());
        GatherRows(x, {rows, 50}, picked, {});
        ScatterRows(picked, {rows, 50}, back, {});
        const Tensor gpu_rows = ToGpu(rows);
        const Tensor gpu_picked = ToGpu(picked);
        const Tensor gpu_back = ToGpu(x);
        GatherRows(ToGpu(x), {gpu_rows, 50}, gpu_picked, stream());
        testing::ExpectSameBits(ToCpu(gpu_picked), picked, "picked");
        ScatterRows(gpu_picked, {gpu_rows, 50}, gpu_back, stream());
        testing::ExpectSameBits(ToCpu(gpu_back), back, "back");
      }
    }
  }
}

}  // namespace
}  // namespace ksa
