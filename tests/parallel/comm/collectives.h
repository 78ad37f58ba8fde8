// Every collective of a group against its meaning, for any make of communicator and any device.
#pragma once

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "parallel/comm/communicator.h"

namespace ksa::testing {

// All ranks of `group` call it, with tensors from `memory` where `stream` computes. Whole numbers whose sums are exact
// in every type: results must be equal. Failures are gtest's.
void CheckCollectives(Communicator& group, const Stream& stream, Allocator& memory);

// The same for values of the host alone, and for groups split off and split again.
void CheckHostValues(Communicator& group);
void CheckSplits(Communicator& group, const Stream& stream, Allocator& memory);

}  // namespace ksa::testing
