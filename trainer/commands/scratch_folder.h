// A folder for what a command makes and nobody keeps.
#pragma once

#include <string>

namespace ksa {

// TMPDIR, or the system's folder for temporary files.
[[nodiscard]] std::string TemporaryFolder();

// Made in `parent`, and removed with everything in it. Error(kCannotCreate), kIo.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& parent = TemporaryFolder());
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder();

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace ksa
