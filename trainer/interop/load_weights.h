// checkpoint.load: the weights of a new run from a checkpoint or a Hugging Face folder.
#pragma once

#include <string>
#include <vector>

#include "model/autograd/parameter.h"
#include "model/mixers/model_config.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/interop/adapt.h"
#include "trainer/interop/hf_folder.h"

namespace ksa {

// Fills the weights of the store; each rank reads its own boxes. What the source lacks is made as `options` says.
// Returns a line for every parameter that was made, every tensor of a folder that stayed unused, and every value of its
// model that the run changes. Error(kConfig) for another model: also where a checkpoint has a tensor that the model
// lacks, or another dtype.
std::vector<std::string> LoadFromCheckpoint(ParameterStore& store,
                                            const Checkpoint& checkpoint,
                                            const AdaptOptions& options,
                                            const Stream& stream);
std::vector<std::string> LoadFromFolder(ParameterStore& store,
                                        const ModelConfig& model,
                                        const std::string& path,
                                        const AdaptOptions& options,
                                        const Stream& stream);

}  // namespace ksa
