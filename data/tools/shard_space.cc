#include "data/tools/shard_space.h"

#include "data/files/paths.h"
#include "data/shards/token_file.h"
#include "kernels/core/error.h"

namespace ksa {

int64_t ShardSpace(double tokens, double documents, int64_t vocab_size, int shards) {
  const double bytes = tokens * TokenBytes(vocab_size) + documents * 8;
  return static_cast<int64_t>(bytes * (1 + 1.0 / shards));
}

void CheckShardSpace(const std::string& folder, int64_t bytes, bool estimated, const Warn& warn) {
  const int64_t free = FreeBytes(folder);
  if (free >= bytes) {
    return;
  }
  const std::string message = fmt::format("{}: writing the shards takes {} {:.1f} MB, {:.1f} MB are free on its disk",
                                          folder,
                                          estimated ? "about" : "at least",
                                          static_cast<double>(bytes) / 1e6,
                                          static_cast<double>(free) / 1e6);
  if (!estimated || free < bytes / 2) {
    Fail(ExitCode::kIo, "{}; nothing was written. Make room, or take another --output or more --shards", message);
  }
  warn(message + ". It may not suffice");
}

}  // namespace ksa
