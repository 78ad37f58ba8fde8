// Tensors that several ranks hold alike, compared by hash. Nothing else would notice that a rank's memory or processor
// changed one of them: the ranks would train different models, and one of these would become the checkpoint.
//
// Alike are, over data and context ranks, all weights (and, without ZeRO, master weights and moments); over tensor
// ranks, the parameters that are whole on each; over the tensor ranks that share a key/value head, its parameters.
#pragma once

#include "kernels/core/device.h"
#include "model/autograd/parameter.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa {

// All ranks call it together, between updates. Where copies differ in a bit, every rank throws the same
// Error(kDiverged) naming the tensor and the ranks whose copy is another than most have. Reads every weight once: about
// 7 GB/s of one core, and from a GPU the copy.
void CompareReplicas(const ParameterStore& store, const ProcessMesh& mesh, const Stream& stream);

}  // namespace ksa
