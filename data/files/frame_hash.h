// The bytes of a file that belong to none of its datasets: what a format keeps for itself, and the gaps.
#pragma once

#include <cstdint>
#include <vector>

#include "data/files/posix_file.h"

namespace ksa {

struct ByteRange {
  int64_t begin = 0;
  int64_t end = 0;  // behind the last byte
};

// XXH3-64 of all bytes outside of `datasets`, in order. Memory is bounded. Error kIo.
[[nodiscard]] uint64_t HashOutside(const File& file, std::vector<ByteRange> datasets);

}  // namespace ksa
