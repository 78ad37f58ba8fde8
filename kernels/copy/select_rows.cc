#include "kernels/copy/select_rows.h"

#include <cstring>

#include "kernels/copy/copy_backends.h"
#include "kernels/core/checks.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"
#include "kernels/core/parallel.h"
#include "kernels/core/tensor_work.h"

namespace ksa {
namespace {

void Check(const char* op,
           const TensorView& matrix,
           const RowSelection& selection,
           const TensorView& selected,
           const Stream& stream) {
  const ArgumentCheck check(op, stream);
  check.Floating("matrix", matrix);
  check.Rank("matrix", matrix, 2);
  check.Tensor("matrix", matrix, matrix.dtype, {matrix.rows(), matrix.cols()});
  check.Elements("rows", selection.rows, DType::kI32, selection.rows.size());
  check.Tensor("selected", selected, matrix.dtype, {selection.rows.size(), matrix.cols()});
  KSA_CHECK(selection.rows.size() <= matrix.rows(), "{}: {} of {} rows", op, selection.rows.size(), matrix.rows());
}

// function(row of the matrix, row of the selection), as bytes.
template <typename Function>
void ForRowsOnCpu(const TensorView& matrix,
                  const RowSelection& selection,
                  const TensorView& selected,
                  const Stream& stream,
                  const Function& function) {
  const int64_t bytes = matrix.cols() * SizeOf(matrix.dtype);
  const int32_t* rows = selection.rows.As<int32_t>();
  for (int64_t i = 0; i < selection.rows.size(); ++i) {
    KSA_CHECK(rows[i] >= selection.first_row && rows[i] - selection.first_row < matrix.rows(),
              "row {} of a matrix of rows {} to {}",
              rows[i],
              selection.first_row,
              selection.first_row + matrix.rows() - 1);
  }
  ParallelFor(stream, selection.rows.size(), matrix.cols(), [&](int64_t i) {
    function(static_cast<char*>(matrix.data) + (rows[i] - selection.first_row) * bytes,
             static_cast<char*>(selected.data) + i * bytes,
             static_cast<size_t>(bytes));
  });
}

}  // namespace

void GatherRows(const TensorView& x, const RowSelection& selection, const TensorView& y, const Stream& stream) {
  Check("GatherRows", x, selection, y, stream);
  const auto work = [&] { return MovedBy(WorkKind::kRows, {selection.rows, y, y}); };
  RunOp("GatherRows", stream, {x.shape, y.shape}, work, [&] {
    if (y.size() == 0) {
      return;
    }
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("GatherRows", stream, cuda::GatherRows(x, selection, y, stream));
      return;
    }
    ForRowsOnCpu(
        x, selection, y, stream, [](const char* from, char* to, size_t bytes) { std::memcpy(to, from, bytes); });
  });
}

void ScatterRows(const TensorView& x, const RowSelection& selection, const TensorView& y, const Stream& stream) {
  Check("ScatterRows", y, selection, x, stream);
  Zero(y, stream);
  const auto work = [&] { return MovedBy(WorkKind::kRows, {selection.rows, x, x}); };
  RunOp("ScatterRows", stream, {x.shape, y.shape}, work, [&] {
    if (x.size() == 0) {
      return;
    }
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("ScatterRows", stream, cuda::ScatterRows(x, selection, y, stream));
      return;
    }
    ForRowsOnCpu(
        y, selection, x, stream, [](char* to, const char* from, size_t bytes) { std::memcpy(to, from, bytes); });
  });
}

}  // namespace ksa
