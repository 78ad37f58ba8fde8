#include "kernels/copy/column_block.h"

#include <cstring>

#include "kernels/copy/copy_backends.h"
#include "kernels/core/checks.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"
#include "kernels/core/parallel.h"

namespace ksa {
namespace {

void CheckBlock(const ArgumentCheck& check, const char* name, const ColumnBlock& block, const ColumnBlock& from) {
  check.Elements(name, block.rows, from.rows.dtype, block.rows.size());
  KSA_CHECK(block.rows.shape.rank() > 0 && block.rows.rows() == from.rows.rows() && block.columns == from.columns,
            "CopyBlock: {} columns of {} {}; expected {} columns of {} rows",
            block.columns,
            name,
            block.rows.shape.ToString(),
            from.columns,
            from.rows.rows());
  KSA_CHECK(block.first >= 0 && block.columns >= 0 && block.first + block.columns <= block.rows.cols(),
            "CopyBlock: columns [{}, {}) of {} {}",
            block.first,
            block.first + block.columns,
            name,
            block.rows.shape.ToString());
}

char* FirstByte(const ColumnBlock& block) {
  return static_cast<char*>(block.rows.data) + block.first * SizeOf(block.rows.dtype);
}

void CopyOnCpu(const ColumnBlock& from, const ColumnBlock& to, const Stream& stream) {
  const int64_t element = SizeOf(from.rows.dtype);
  const int64_t from_pitch = from.rows.cols() * element;
  const int64_t to_pitch = to.rows.cols() * element;
  ParallelFor(stream, from.rows.rows(), from.columns, [&](int64_t row) {
    std::memcpy(FirstByte(to) + row * to_pitch,
                FirstByte(from) + row * from_pitch,
                static_cast<size_t>(from.columns * element));
  });
}

}  // namespace

void CopyBlock(const ColumnBlock& from, const ColumnBlock& to, const Stream& stream) {
  const ArgumentCheck check("CopyBlock", stream);
  CheckBlock(check, "from", from, from);
  CheckBlock(check, "to", to, from);
  const auto work = [&] {
    return OpWork{.kind = WorkKind::kRows, .bytes = 2 * from.rows.rows() * from.columns * SizeOf(from.rows.dtype)};
  };
  RunOp("CopyBlock", stream, {from.rows.shape, to.rows.shape}, work, [&] {
    if (from.rows.rows() * from.columns == 0) {
      return;
    }
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("CopyBlock", stream, cuda::CopyBlock(from, to, stream));
      return;
    }
    CopyOnCpu(from, to, stream);
  });
}

}  // namespace ksa
