#include "kernels/copy/row_parts.h"

#include <algorithm>
#include <vector>

#include "kernels/copy/copy_backends.h"
#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"
#include "kernels/core/parallel.h"
#include "kernels/core/tensor_work.h"

namespace ksa {
namespace {

// Of one pass: on a GPU they are parameters of the kernel.
constexpr size_t kMostParts = 48;

void CheckPart(const ArgumentCheck& check, const RowPart& part, const TensorView& y) {
  check.Elements("part", part.rows, y.dtype, part.rows.size());
  KSA_CHECK(part.rows.shape.rank() > 0 && part.rows.cols() == y.cols() && part.first >= 0 &&
                part.first + part.rows.rows() <= y.rows(),
            "SumRowParts: a part {} at row {} of {}",
            part.rows.shape.ToString(),
            part.first,
            y.shape.ToString());
}

// One pass over y, row by row.
template <typename T>
void SumOnCpu(std::span<const RowPart> parts, const TensorView& y, const Stream& stream) {
  using A = Accumulator<T>;
  T* out = y.As<T>();
  const int64_t columns = y.cols();
  ParallelFor(stream, y.rows(), columns * static_cast<int64_t>(parts.size() + 1), [&](int64_t row) {
    std::vector<A> sum(static_cast<size_t>(columns), A{0});
    for (const RowPart& part : parts) {
      if (row < part.first || row >= part.first + part.rows.rows()) {
        continue;
      }
      const T* x = part.rows.As<T>() + (row - part.first) * columns;
      for (int64_t i = 0; i < columns; ++i) {
        sum[static_cast<size_t>(i)] += static_cast<A>(x[i]);
      }
    }
    std::transform(sum.begin(), sum.end(), out + row * columns, [](A value) { return static_cast<T>(value); });
  });
}

void SumGroup(std::span<const RowPart> parts, const TensorView& y, const Stream& stream) {
  if (!stream.device.IsCpu()) {
    KSA_CUDA_OR_FAIL("SumRowParts", stream, cuda::SumRowParts(parts, y, stream));
    return;
  }
  DispatchFloating(y.dtype, [&](auto element) { SumOnCpu<decltype(element)>(parts, y, stream); });
}

}  // namespace

void SumRowParts(std::span<const RowPart> parts, const TensorView& y, const Stream& stream) {
  const ArgumentCheck check("SumRowParts", stream);
  check.Floating("y", y);
  check.Elements("y", y, y.dtype, y.size());
  for (const RowPart& part : parts) {
    CheckPart(check, part, y);
  }
  const auto work = [&] {
    OpWork moved = MovedBy(WorkKind::kRows, {y});
    for (const RowPart& part : parts) {
      moved.bytes += part.rows.bytes();
    }
    return moved;
  };
  RunOp("SumRowParts", stream, {y.shape}, work, [&] {
    if (y.size() == 0) {
      return;
    }
    std::span<const RowPart> left = parts;
    const size_t first = std::min(left.size(), kMostParts);
    SumGroup(left.first(first), y, stream);
    left = left.subspan(first);
    while (!left.empty()) {
      // The sum so far goes on as the first part: every element is read before it is written.
      const size_t count = std::min(left.size(), kMostParts - 1);
      std::vector<RowPart> group = {{y, 0}};
      group.insert(group.end(), left.begin(), left.begin() + static_cast<std::ptrdiff_t>(count));
      SumGroup(group, y, stream);
      left = left.subspan(count);
    }
  });
}

}  // namespace ksa
