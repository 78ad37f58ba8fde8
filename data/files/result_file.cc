#include "data/files/result_file.h"

#include "data/files/posix_file.h"

namespace ksa {

void WriteResult(const std::string& path, const std::string& contents) {
  File file = File::Create(path);
  file.Write(contents.data(), static_cast<int64_t>(contents.size()));
  file.Close();
}

}  // namespace ksa
