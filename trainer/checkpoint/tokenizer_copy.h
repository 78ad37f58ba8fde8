// The copy of a run's tokenizer in a checkpoint.
#pragma once

#include <string>

#include "trainer/checkpoint/manifest.h"

namespace ksa {

// Writes `contents` as the file `name`, a tokenizer's, into a checkpoint's folder and flushes it. Error(kCannotCreate),
// Error(kIo).
[[nodiscard]] TokenizerCopy WriteTokenizerCopy(const std::string& folder,
                                               const std::string& name,
                                               const std::string& contents);

}  // namespace ksa
