// Where backward is: the tape is linear, so a place in the forward pass tells what backward has left behind.
#pragma once

#include <functional>

#include "model/autograd/tape.h"

namespace ksa {

// Records a place: `reached` is called when backward has run everything that is recorded after it, and nothing before.
// Without a tape nothing happens.
void Milestone(const ExecContext& cx, std::function<void()> reached);

}  // namespace ksa
