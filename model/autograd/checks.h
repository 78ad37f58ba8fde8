// Placement checks that operations share. Every operation states what it accepts; anything else is a bug in the model,
// reported with the operation's name even when all mesh axes have size 1.
#pragma once

#include "model/autograd/tape.h"

namespace ksa {

// The value is complete on this rank along the tensor axis: Replicated or a slice, but never a part of a sum.
void RequireNotPartial(const char* op, const Var& x);

// The tensor-axis placement is exactly `wanted`.
void RequireTensorPlacement(const char* op, const Var& x, Placement wanted);

// Both lie alike on every axis.
void RequireSamePlacement(const char* op, const Var& a, const Var& b);

}  // namespace ksa
