#include "kernels/copy/column_block.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/gpu/support.h"

namespace ksa {
namespace {

using GpuColumnBlock = testing::GpuTest;

struct Columns {
  int64_t from_width;
  int64_t from_first;
  int64_t to_width;
  int64_t to_first;
  int64_t columns;
};

// 16, 4 and 2 bytes at a time, by what the addresses, the widths and the number of columns allow; with more columns
// than threads, and fewer.
constexpr std::array<Columns, 8> kColumns = {{{256, 128, 128, 0, 128},
                                              {128, 0, 256, 128, 128},
                                              {4096, 1024, 3072, 8, 2048},
                                              {4096, 1024, 3072, 2, 2044},
                                              {257, 1, 300, 7, 200},
                                              {9, 3, 5, 2, 1},
                                              {64, 8, 72, 16, 24},
                                              {64, 8, 72, 16, 0}}};

TEST_F(GpuColumnBlock, CopiesLikeTheCpu) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kI32}) {
    for (const int64_t rows : {0, 1, 3, 130, 1031}) {
      for (const Columns& c : kColumns) {
        SCOPED_TRACE(fmt::format("{} columns {} of {} rows of {}", c.columns, c.from_first, rows, NameOf(dtype)));
        const bool integers = dtype == DType::kI32;
        const auto make = [&](const char* name, int64_t width) {
          return integers ? testing::Integers(name, {rows, width}, -50, 50, host())
                          : testing::Normal(name, {rows, width}, dtype, host());
        };
        const Tensor from = make("from", c.from_width);
        const Tensor to = make("to", c.to_width);
        const Tensor gpu_to = ToGpu(to);
        CopyBlock({ToGpu(from), c.from_first, c.columns}, {gpu_to, c.to_first, c.columns}, stream());
        CopyBlock({from, c.from_first, c.columns}, {to, c.to_first, c.columns}, {});
        testing::ExpectSameBits(ToCpu(gpu_to), to, "to");
      }
    }
  }
}

}  // namespace
}  // namespace ksa
