// `ksa data merge`: one index over the shards of several folders.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ksa {

struct MergeOptions {
  std::vector<std::string> inputs;  // shard folders, or folders that hold train and validation; all of one form
  std::string output;
};

// What came out of one folder of shards.
struct MergedFolder {
  std::string path;
  int64_t shards = 0;
  int64_t tokens = 0;
  int64_t documents = 0;
};

// The shards, in the order of the folders, are linked into the output and not copied: it must lie on their file system.
// The folders that were merged may be removed afterwards. `output` appears whole or not at all.
// Error kUsage: one folder given twice, or two forms; kMissingInput; kBadData: damaged, or of different tokenizers;
// kCannotCreate: `output` exists, may not be made, or lies on another file system; kIo.
[[nodiscard]] std::vector<MergedFolder> MergeShards(const MergeOptions& options);

}  // namespace ksa
