#include "kernels/cache/move_rows.h"

#include <cstring>

#include "kernels/cache/cache_backends.h"
#include "kernels/core/checks.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"

namespace ksa {
namespace {

constexpr const char* kOp = "MoveRows";

void CheckNumbers(const char* name, const TensorView& numbers, int64_t rows) {
  if (numbers.empty() || !numbers.device.IsCpu()) {
    return;
  }
  for (int64_t i = 0; i < numbers.size(); ++i) {
    const int32_t row = numbers.As<int32_t>()[i];
    KSA_CHECK(row >= 0 && row < rows, "{}: {} names row {} of {}", kOp, name, row, rows);
  }
}

void MoveOnHost(const MoveRowsArgs& args, int64_t n) {
  const auto bytes = static_cast<size_t>(args.from.cols() * SizeOf(args.from.dtype));
  const auto* from = static_cast<const char*>(args.from.data);
  auto* to = static_cast<char*>(args.to.data);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t a = args.from_rows.empty() ? i : args.from_rows.As<int32_t>()[i];
    const int64_t b = args.to_rows.empty() ? i : args.to_rows.As<int32_t>()[i];
    std::memcpy(to + static_cast<size_t>(b) * bytes, from + static_cast<size_t>(a) * bytes, bytes);
  }
}

}  // namespace

void MoveRows(const MoveRowsArgs& args, const Stream& stream) {
  const ArgumentCheck check(kOp, stream);
  KSA_CHECK(!args.from_rows.empty() || !args.to_rows.empty(), "{}: no list of rows", kOp);
  const TensorView& numbers = args.from_rows.empty() ? args.to_rows : args.from_rows;
  const int64_t n = numbers.size();
  check.Optional("from_rows", args.from_rows, DType::kI32, {n});
  check.Optional("to_rows", args.to_rows, DType::kI32, {n});
  check.Tensor("from", args.from, args.from.dtype, args.from.shape);
  check.Tensor("to", args.to, args.from.dtype, args.from.shape.WithRows(args.to.rows()));
  KSA_CHECK((!args.from_rows.empty() || args.from.rows() >= n) && (!args.to_rows.empty() || args.to.rows() >= n),
            "{}: {} rows of {} to {}",
            kOp,
            n,
            args.from.rows(),
            args.to.rows());
  CheckNumbers("from_rows", args.from_rows, args.from.rows());
  CheckNumbers("to_rows", args.to_rows, args.to.rows());
  const auto work = [&] {
    return OpWork{.kind = WorkKind::kRows, .bytes = 2 * n * args.from.cols() * SizeOf(args.from.dtype)};
  };
  RunOp(kOp, stream, {args.from.shape, args.to.shape}, work, [&] {
    if (n == 0) {
      return;
    }
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL(kOp, stream, cuda::MoveRows(args, n, stream));
      return;
    }
    MoveOnHost(args, n);
  });
}

}  // namespace ksa
