// README.md of a folder: what the model is, and where it comes from.
#pragma once

#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/interop/hf_config.h"

namespace ksa {

[[nodiscard]] std::string ModelCard(const Checkpoint& checkpoint,
                                    const ModelConfig& model,
                                    HfLayout layout,
                                    const std::vector<std::string>& notes);

}  // namespace ksa
