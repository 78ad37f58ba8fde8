// The initial values of parameters.
#pragma once

#include <cstdint>

#include "model/autograd/parameter.h"

namespace ksa {

// Initial values of the elements `range`, counted inside, of what lies in `held` of a parameter: a pure function of
// (seed, name, element of the whole tensor). `values` [range.size()] fp32 or fp64, in host memory.
void FillInitial(const ParameterSpec& spec,
                 uint64_t seed,
                 const HeldRuns& held,
                 const FlatRange& range,
                 int threads,
                 const TensorView& values);

}  // namespace ksa
