#include "trainer/commands/scratch_folder.h"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <stdlib.h>

#include "data/files/file_error.h"

namespace ksa {

std::string TemporaryFolder() {
  const char* folder = std::getenv("TMPDIR");
  return folder == nullptr || *folder == '\0' ? "/tmp" : folder;
}

ScratchFolder::ScratchFolder(const std::string& parent) : path_(parent + "/ksa-bench-XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) {
    FailFile(FileUse::kCreate, errno, path_, "a temporary folder cannot be made (choose another, or set TMPDIR)");
  }
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace ksa
