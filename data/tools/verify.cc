#include "data/tools/verify.h"

#include <algorithm>

#include "data/shards/shard_folder.h"
#include "data/tools/progress_bar.h"
#include "kernels/core/error.h"

namespace ksa {

std::vector<Error> VerifyShards(const std::string& folder) {
  const ShardIndex index = ReadShardIndex(folder);
  int64_t bytes = 0;
  for (const ShardEntry& entry : index.shards) {
    bytes += entry.bytes;
  }
  std::vector<Error> faults;
  const auto attempt = [&](const auto& check) {
    try {
      check();
    } catch (const Error& error) {
      faults.push_back(error);
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
  return faults;
}

void FailIfFaulty(const std::vector<Error>& faults) {
  const auto damaged = static_cast<size_t>(std::count_if(
      faults.begin(), faults.end(), [](const Error& fault) { return fault.code() == ExitCode::kBadData; }));
  const size_t unread = faults.size() - damaged;
  const std::string unread_files = fmt::format("{} file{} could not be read", unread, unread == 1 ? "" : "s");
  if (damaged > 0) {
    Fail(ExitCode::kBadData,
         "{} file{} damaged{}",
         damaged,
         damaged == 1 ? " is" : "s are",
         unread > 0 ? "; " + unread_files : "");
  }
  if (unread > 0) {
    Fail(faults.front().code(), "{}; what was read is good", unread_files);
  }
}

}  // namespace ksa
