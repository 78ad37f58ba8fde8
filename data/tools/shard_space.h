// Whether the disk has room for the shards that are about to be written.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace ksa {

using Warn = std::function<void(const std::string&)>;

// Bytes that are needed while shards are written: their tokens and document offsets, and the last shard of `shards` a
// second time, because it is spooled before its size is known.
[[nodiscard]] int64_t ShardSpace(double tokens, double documents, int64_t vocab_size, int shards);

// Error(kIo) when the disk of `folder` has too little room: less than `bytes` when that is known, less than half of it
// when it was estimated, because then any text like the sample would fill the disk. Between them `warn` is called.
void CheckShardSpace(const std::string& folder, int64_t bytes, bool estimated, const Warn& warn);

}  // namespace ksa
