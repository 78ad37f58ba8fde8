// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include <span>

#include "kernels/copy/column_block.h"
#include "kernels/copy/elementwise.h"
#include "kernels/copy/row_parts.h"
#include "kernels/copy/select_rows.h"

// Copies, casts, sums and reductions on the CPU.
namespace ksa::cpu {

template <typename From, typename To>
void Copy(const TensorView& from, const TensorView& to, const Stream& stream);

void Zero(const TensorView& x, const Stream& stream);

template <typename T>
void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream);

template <typename T>
void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream);

template <typename T>
void SumOfSquares(const TensorView& x, const TensorView& out, const Stream& stream);

template <typename T>
void RaiseToLargest(const TensorView& x, const TensorView& out);

}  // namespace ksa::cpu

// Copies, casts, sums and reductions on a GPU; fp32 and bf16.
namespace ksa::cuda {

void Copy(const TensorView& from, const TensorView& to, const Stream& stream);
void Zero(const TensorView& x, const Stream& stream);
void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream);
void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream);
void SumOfSquares(const TensorView& x, const TensorView& out, Allocator& scratch, const Stream& stream);
void RaiseToLargest(const TensorView& x, const TensorView& out, const Stream& stream);

// There is something to copy.
void CopyBlock(const ColumnBlock& from, const ColumnBlock& to, const Stream& stream);

// There is something to copy. ScatterRows writes the selected rows alone.
void GatherRows(const TensorView& x, const RowSelection& selection, const TensorView& y, const Stream& stream);
void ScatterRows(const TensorView& x, const RowSelection& selection, const TensorView& y, const Stream& stream);

// At most 48 parts.
void SumRowParts(std::span<const RowPart> parts, const TensorView& y, const Stream& stream);

}  // namespace ksa::cuda
