// Placement checks that operations share. Every operation states what it accepts; anything else is a bug in the model,
// reported with the operation's name even when all mesh axes have size 1.
#pragma once

#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

// Along the data and context axes the value is some of the rows (Sharded(0)), or the same everywhere.
void RequireRows(const char* op, const Var& x);

// As RequireRows, and complete on this rank along the tensor axis: whole or a slice, but never a part of a sum.
void RequireNotPartial(const char* op, const Var& x);

// As RequireRows, and the tensor-axis placement is exactly `wanted`.
void RequireTensorPlacement(const char* op, const Var& x, Placement wanted);

// As RequireRows, and what is the rule between products along the tensor axis: whole rows, all of them (Replicated) or,
// under sequence parallelism, some (Sharded(0)).
void RequireWholeRows(const char* op, const Var& x);

// Both lie alike on every axis.
void RequireSamePlacement(const char* op, const Var& a, const Var& b);

// The gradient that this use of `weight` computes is (`partial`) a part of a sum over the tensor axis, or not; and the
// parameter was declared so, or nobody would reduce it.
void RequireGradientPartial(const char* op, const Parameter& weight, bool partial);

}  // namespace ksa
