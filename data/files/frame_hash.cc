#include "data/files/frame_hash.h"

#include <algorithm>

#include "data/files/streamed_hash.h"

namespace ksa {

uint64_t HashOutside(const File& file, std::vector<ByteRange> datasets) {
  constexpr int64_t kChunkBytes = int64_t{1} << 20;
  const int64_t size = file.Size();
  std::sort(datasets.begin(), datasets.end(), [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  datasets.push_back({size, size});
  StreamedHash hash;
  std::vector<char> gap;
  int64_t begin = 0;
  for (const ByteRange& next : datasets) {
    while (begin < next.begin) {
      gap.resize(static_cast<size_t>(std::min(kChunkBytes, next.begin - begin)));
      file.ReadAt(begin, gap.data(), static_cast<int64_t>(gap.size()));
      hash.Update(gap.data(), gap.size());
      begin += static_cast<int64_t>(gap.size());
    }
    begin = std::max(begin, next.end);
  }
  return hash.Digest();
}

}  // namespace ksa
