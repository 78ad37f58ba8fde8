// Collectives on the rows of activations, of any floating type: rows are spread over a group part by part (RowCounts),
// evenly to within a row and without padding.
//
// Sums are made by the ranks themselves: the parts travel, and each rank adds those of its rows in the order of the
// ranks, in fp32 (fp64 for fp64), rounding once. So bf16 sums do not depend on who adds, and all ranks hold the same
// bits.
#pragma once

#include <vector>

#include "kernels/copy/row_parts.h"
#include "kernels/core/allocator.h"
#include "kernels/core/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/tensor/row_counts.h"

namespace ksa {

// whole [rows.total(), d] = all ranks' parts; `part` [this rank's rows, d] is this rank's, and is in its place at once
// whatever the ordering; until the other rows are there it must stay as it is.
void GatherRows(const char* op,
                const TensorView& part,
                const TensorView& whole,
                const RowCounts& rows,
                Communicator& group,
                const Stream& stream,
                Ordering ordering = Ordering::kInOrder);

// part [this rank's rows, d] = the sum over ranks of these rows of `whole` [rows.total(), d]. In two steps: rows travel
// from the beginning, beside what the caller queues in between, and are added by Finish. Until then the rows of other
// ranks must stay as they are; this rank's are read by Finish alone. Scratch of size() - 1 parts comes from
// `allocator`. Without Finish, when an exception comes between, the rows still arrive before their memory is used
// again.
class RowReduceScatter {
 public:
  RowReduceScatter(const char* op,
                   const TensorView& whole,
                   const TensorView& part,
                   const RowCounts& rows,
                   Communicator& group,
                   Allocator& allocator,
                   const Stream& stream);

  void Finish(const Stream& stream);

 private:
  TensorView part_;
  Tensor received_;
  std::vector<RowPart> sum_;
  PendingCalls travelling_;  // goes first
};

// y [n, d] = the sum over ranks of x [n, d]; not in place. Scratch as above.
void AllReduceRows(const char* op,
                   const TensorView& x,
                   const TensorView& y,
                   Communicator& group,
                   Allocator& allocator,
                   const Stream& stream);

}  // namespace ksa
