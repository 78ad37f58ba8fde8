#include "kernels/copy/column_block.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::GuardAllocator;

TEST(CopyBlock, CopiesItsColumnsAndTouchesNoOthers) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t rows : {0, 1, 5, 3001}) {
      for (const int64_t columns : {0, 1, 4, 7}) {
        SCOPED_TRACE(fmt::format("{} columns of {} rows of {}", columns, rows, NameOf(dtype)));
        GuardAllocator memory;
        const Tensor from = testing::Normal("from", {rows, 9}, dtype, memory);
        const Tensor to = testing::Normal("to", {rows, 3, 4}, dtype, memory);
        const Tensor expected = testing::Clone(to, memory);
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t column = 0; column < columns; ++column) {
            testing::SetElement(expected, row * 12 + 5 + column, testing::ElementAt(from, row * 9 + 2 + column));
          }
        }
        CopyBlock({from, 2, columns}, {to, 5, columns}, {.device = {}, .threads = 2});
        testing::ExpectSameBits(to, expected, "to");
      }
    }
  }
}

TEST(CopyBlock, PacksAndUnpacksHeads) {
  GuardAllocator memory;
  const Tensor q = testing::Normal("q", {11, 6, 4}, DType::kF32, memory);
  const Tensor back = Tensor::Empty(q.shape(), DType::kF32, memory);
  for (int64_t part = 0; part < 3; ++part) {
    const Tensor heads = Tensor::Empty({11, 2, 4}, DType::kF32, memory);
    CopyBlock({q, part * 8, 8}, {heads, 0, 8}, {});
    for (int64_t i = 0; i < heads.size(); ++i) {
      EXPECT_EQ(testing::ElementAt(heads, i), testing::ElementAt(q, i / 8 * 24 + part * 8 + i % 8));
    }
    CopyBlock({heads, 0, 8}, {back, part * 8, 8}, {});
  }
  testing::ExpectSameBits(back, q, "q");
}

TEST(CopyBlock, RefusesBlocksThatDoNotMatch) {
  GuardAllocator memory;
  const Tensor x = testing::Normal("x", {4, 6}, DType::kF32, memory);
  const Tensor y = Tensor::Empty({4, 6}, DType::kF32, memory);
  EXPECT_THROW(CopyBlock({x, 0, 3}, {y, 0, 2}, {}), Error);
  EXPECT_THROW(CopyBlock({x, 4, 3}, {y, 0, 3}, {}), Error);
  EXPECT_THROW(CopyBlock({x, 0, 3}, {y, -1, 3}, {}), Error);
  EXPECT_THROW(CopyBlock({x, 0, 3}, {y.Rows(0, 3), 0, 3}, {}), Error);
  EXPECT_THROW(CopyBlock({x, 0, 3}, {Tensor::Empty({4, 6}, DType::kBF16, memory), 0, 3}, {}), Error);
}

}  // namespace
}  // namespace ksa
