// What a run says before its first update.
#pragma once

#include <string>
#include <vector>

#include "data/loader/dataset.h"
#include "model/autograd/parameter.h"
#include "trainer/config/config.h"
#include "trainer/step/runtime.h"

namespace ksa {

// Lines: ranks and cores, parameters by group, data and epochs, FLOPs a token of the real mask, memory of the state.
[[nodiscard]] std::vector<std::string> StartSummary(const Config& config,
                                                    const ParameterStore& store,
                                                    const Dataset& dataset,
                                                    const Runtime& runtime);

}  // namespace ksa
