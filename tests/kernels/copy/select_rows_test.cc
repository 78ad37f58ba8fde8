#include "kernels/copy/select_rows.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::GuardAllocator;

Tensor Numbers(const std::vector<int32_t>& numbers, Allocator& memory) {
  Tensor rows = Tensor::Empty({static_cast<int64_t>(numbers.size())}, DType::kI32, memory);
  std::copy(numbers.begin(), numbers.end(), rows.As<int32_t>());
  return rows;
}

TEST(SelectRows, TakesRowsOutAndPutsThemBack) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t columns : {1, 5, 16}) {
      for (const std::vector<int32_t>& rows :
           {std::vector<int32_t>{}, {100}, {112}, {100, 103, 104, 112}, {107, 101, 111}}) {
        SCOPED_TRACE(fmt::format("{} rows of 13, {} columns, {}", rows.size(), columns, NameOf(dtype)));
        GuardAllocator memory;
        const auto count = static_cast<int64_t>(rows.size());
        const Tensor x = testing::Normal("x", {13, columns}, dtype, memory);
        const Tensor picked = testing::Normal("picked", {count, columns}, dtype, memory);
        const Tensor numbers = Numbers(rows, memory);
        GatherRows(x, {numbers, 100}, picked, {.device = {}, .threads = 2});
        const Tensor expected = Tensor::Zeros({13, columns}, dtype, memory);
        for (int64_t i = 0; i < count * columns; ++i) {
          const int64_t from = (rows[static_cast<size_t>(i / columns)] - 100) * columns + i % columns;
          EXPECT_EQ(testing::ElementAt(picked, i), testing::ElementAt(x, from));
          testing::SetElement(expected, from, testing::ElementAt(x, from));
        }
        const Tensor back = testing::Normal("back", {13, columns}, dtype, memory);
        ScatterRows(picked, {numbers, 100}, back, {.device = {}, .threads = 2});
        testing::ExpectSameBits(back, expected, "the other rows are 0");
      }
    }
  }
}

TEST(SelectRows, RefusesWhatDoesNotMatch) {
  GuardAllocator memory;
  const Tensor x = testing::Normal("x", {4, 6}, DType::kF32, memory);
  const Tensor two = Tensor::Empty({2, 6}, DType::kF32, memory);
  EXPECT_THROW(GatherRows(x, {Numbers({0, 4}, memory), 0}, two, {}), Error) << "a row behind the last";
  EXPECT_THROW(GatherRows(x, {Numbers({0, 1}, memory), 1}, two, {}), Error) << "a row before the first";
  EXPECT_THROW(GatherRows(x, {Numbers({0}, memory), 0}, two, {}), Error) << "fewer numbers than rows";
  EXPECT_THROW(ScatterRows(x, {Numbers({0, 1, 2, 3}, memory), 0}, two, {}), Error) << "more rows than there are";
  EXPECT_THROW(GatherRows(x, {Numbers({0, 1}, memory), 0}, Tensor::Empty({2, 5}, DType::kF32, memory), {}), Error);
}

}  // namespace
}  // namespace ksa
