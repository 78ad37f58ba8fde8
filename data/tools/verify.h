// `ksa data verify`: checks every byte of a shard folder.
#pragma once

#include <string>
#include <vector>

#include "kernels/core/error.h"

namespace ksa {

// Opens each shard of the folder and compares it with the index, every block with its hash, every offset, every end of
// document and the bytes between. Goes on after a bad shard. Returns what is wrong, an error a file; empty when nothing
// is. kBadData is damage; kIo and kMissingInput mean that the file could not be read, whatever is in it.
// Error kMissingInput, kIo, kBadData: there is no folder or no usable index.
[[nodiscard]] std::vector<Error> VerifyShards(const std::string& folder);

// Error when there are faults: kBadData when any of them is damage, else the code of the first.
void FailIfFaulty(const std::vector<Error>& faults);

}  // namespace ksa
