// A checkpoint as a Hugging Face folder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/safetensors.h"

namespace ksa {

struct ExportOptions {
  HfLayout layout = HfLayout::kOwn;
  SafetensorsOptions weights;
};

struct ExportReport {
  int64_t bytes = 0;  // of the weights
  int64_t tensors = 0;
  size_t files = 0;                // of the weights
  std::vector<std::string> notes;  // what the folder could not keep, and what its reader should know
};

// Writes `folder`, which appears whole or not at all. Takes memory for a block of a tensor. Error(kConfig) when the
// layout cannot say the model, with every key; kCannotCreate when the folder holds something; errors of reading the
// checkpoint.
ExportReport ExportHf(const Checkpoint& checkpoint, const std::string& folder, const ExportOptions& options);

}  // namespace ksa
