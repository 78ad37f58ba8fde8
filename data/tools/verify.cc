#include "data/tools/verify.h"

#include "data/shards/shard_folder.h"
#include "data/tools/progress_bar.h"
#include "kernels/core/error.h"

namespace ksa {

std::vector<std::string> VerifyShards(const std::string& folder) {
  const ShardIndex index = ReadShardIndex(folder);
  int64_t bytes = 0;
  for (const ShardEntry& entry : index.shards) {
    bytes += entry.bytes;
  }
  std::vector<std::string> problems;
  const auto attempt = [&](const auto& check) {
    try {
      check();
    } catch (const Error& error) {
      problems.emplace_back(error.what());
    }
  };
  attempt([&] { CheckTokenizerFile(folder, index); });
  ProgressBar progress("verify", bytes);
  int64_t done = 0;
  for (const ShardEntry& entry : index.shards) {
    attempt([&] { OpenIndexedShard(folder, index, entry).Verify(); });
    done += entry.bytes;
    progress.Show(done);
  }
  return problems;
}

}  // namespace ksa
