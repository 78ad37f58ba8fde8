// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/latent/absorbed_heads.h"
#include "kernels/latent/latent_heads.h"

namespace ksa::cpu {

template <typename T>
void RotateTails(const RotateTailsArgs& args, const Stream& stream);

template <typename T>
void LatentHeadsForward(const LatentHeadsForwardArgs& args, const Stream& stream);

template <typename T>
void LatentHeadsBackward(const LatentHeadsBackwardArgs& args, const Stream& stream);

template <typename T>
void AbsorbQueries(const AbsorbQueriesArgs& args, const Stream& stream);

template <typename T>
void ExpandValues(const ExpandValuesArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// The same on a GPU; fp32 and bf16.
namespace ksa::cuda {

void RotateTails(const RotateTailsArgs& args, const Stream& stream);
void LatentHeadsForward(const LatentHeadsForwardArgs& args, const Stream& stream);
void LatentHeadsBackward(const LatentHeadsBackwardArgs& args, const Stream& stream);
void AbsorbQueries(const AbsorbQueriesArgs& args, const Stream& stream);
void ExpandValues(const ExpandValuesArgs& args, const Stream& stream);

}  // namespace ksa::cuda
