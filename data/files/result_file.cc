#include "data/files/result_file.h"

#include <unistd.h>

#include "data/files/paths.h"

namespace ksa {

ResultFile::ResultFile(const std::string& path) : made_(!Exists(path)), file_(File::CreateOrKeep(path)) {}

ResultFile::~ResultFile() {
  if (made_ && !written_) {
    static_cast<void>(unlink(file_.path().c_str()));
  }
}

void ResultFile::Write(const std::string& contents) {
  written_ = true;
  file_.Truncate();
  file_.Write(contents.data(), static_cast<int64_t>(contents.size()));
  file_.Close();
}

void WriteResult(const std::string& path, const std::string& contents) {
  ResultFile(path).Write(contents);
}

}  // namespace ksa
