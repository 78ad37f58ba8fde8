// A Hugging Face folder as a checkpoint.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/interop/hf_folder.h"

namespace ksa {

struct ImportReport {
  HfLayout layout = HfLayout::kOwn;
  int64_t parameters = 0;
  std::vector<std::string> made;    // parameters that the folder lacks, and how they came to be
  std::vector<std::string> unused;  // tensors of the folder
  std::vector<std::string> notes;
};

// Writes the checkpoint `output`, which appears whole or not at all, with the folder's model, or with that of `config`:
// a run's configuration, or one that has a section `model` alone. Takes memory for a block of a tensor. Errors as
// OpenHfFolder; kConfig when the models differ, kCannotCreate when `output` exists.
ImportReport ImportHf(const std::string& folder, const std::string& output, const std::optional<std::string>& config);

}  // namespace ksa
