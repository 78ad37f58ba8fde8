#include "kernels/copy/row_parts.h"

#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::GuardAllocator;

struct Place {
  int64_t first;
  int64_t rows;
};

// Some rows are in no part, some in all.
const std::vector<Place> kPlaces = {{0, 9}, {2, 3}, {4, 5}, {2, 1}, {8, 0}, {8, 1}};

TEST(SumRowParts, AddsInTheOrderOfThePartsAndRoundsOnce) {
  GuardAllocator memory;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const int64_t columns : {1, 5, 3000}) {
      for (const size_t first : {0, 1}) {  // without the part of all rows
        SCOPED_TRACE(fmt::format("{} columns of {} from part {}", columns, NameOf(dtype), first));
        std::vector<Tensor> tensors;
        std::vector<RowPart> parts;
        for (size_t p = first; p < kPlaces.size(); ++p) {
          tensors.push_back(testing::Normal(fmt::format("{}", p), {kPlaces[p].rows, columns}, dtype, memory));
          parts.push_back({tensors.back(), kPlaces[p].first});
        }
        const Tensor y = Tensor::Empty({10, columns}, dtype, memory);
        SumRowParts(parts, y, {.device = {}, .threads = 2});
        for (int64_t i = 0; i < y.size(); ++i) {
          double exact = 0.0;
          float narrow = 0.0F;
          for (const RowPart& part : parts) {
            const int64_t row = i / columns - part.first;
            if (row >= 0 && row < part.rows.rows()) {
              const double x = testing::ElementAt(part.rows, row * columns + i % columns);
              exact += x;
              narrow += static_cast<float>(x);
            }
          }
          const Tensor one = Tensor::Empty({1}, dtype, memory);
          testing::SetElement(one, 0, dtype == DType::kF64 ? exact : narrow);
          ASSERT_EQ(testing::ElementAt(y, i), testing::ElementAt(one, 0)) << "element " << i;
        }
      }
    }
  }
}

TEST(SumRowParts, ManyParts) {
  GuardAllocator memory;
  for (const int count : {0, 47, 48, 49, 95, 96, 200}) {
    const Tensor x = testing::Integers("x", {count + 3}, -9, 9, memory);
    Tensor values = Tensor::Empty({count + 3, 1}, DType::kF64, memory);
    std::vector<RowPart> parts;
    double sum = 0.0;
    for (int i = 0; i < count; ++i) {
      testing::SetElement(values, i, x.As<int32_t>()[i]);
      parts.push_back({values.view().Rows(i, 1), 1});
      sum += x.As<int32_t>()[i];
    }
    const Tensor y = Tensor::Empty({2, 1}, DType::kF64, memory);
    SumRowParts(parts, y, {});
    EXPECT_EQ(y.As<double>()[0], 0.0);
    EXPECT_EQ(y.As<double>()[1], sum) << count << " parts";
  }
}

TEST(SumRowParts, RefusesPartsThatDoNotFit) {
  GuardAllocator memory;
  const Tensor y = Tensor::Empty({4, 6}, DType::kF32, memory);
  const Tensor part = testing::Normal("x", {2, 6}, DType::kF32, memory);
  const auto sum = [&](const TensorView& rows, int64_t first) {
    const std::vector<RowPart> parts = {{rows, first}};
    SumRowParts(parts, y, {});
  };
  EXPECT_NO_THROW(sum(part, 2));
  EXPECT_THROW(sum(part, 3), Error);
  EXPECT_THROW(sum(part, -1), Error);
  EXPECT_THROW(sum(part.Reshape({4, 3}), 0), Error);
  EXPECT_THROW(sum(Tensor::Empty({2, 6}, DType::kBF16, memory), 0), Error);
}

}  // namespace
}  // namespace ksa
