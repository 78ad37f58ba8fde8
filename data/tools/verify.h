// `ksa data verify`: checks every byte of a shard folder.
#pragma once

#include <string>
#include <vector>

namespace ksa {

// Opens each shard of the folder and compares it with the index, every block with its hash, every offset and every
// end of document. Goes on after a damaged shard. Returns what is wrong, a message a shard; empty when nothing is.
// Error kMissingInput, kBadData: there is no folder or no usable index.
[[nodiscard]] std::vector<std::string> VerifyShards(const std::string& folder);

}  // namespace ksa
