// Files under a folder of their own, as a process finds them under /.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {

class SystemFiles {
 public:
  // `path` as of the system: "/proc/meminfo".
  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  [[nodiscard]] const std::string& root() const { return folder_.path(); }

 private:
  ScratchFolder folder_;
};

}  // namespace ksa::testing
