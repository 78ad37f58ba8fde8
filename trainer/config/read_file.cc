#include "trainer/config/read_file.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include <fmt/core.h>

namespace ksa {

std::string ReadConfigFile(const std::string& path, std::string& text) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return fmt::format("{}: no such file", path);
  }
  if (!std::filesystem::is_regular_file(status)) {
    return fmt::format("{}: not a file", path);
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (!error && size > kLargestFile) {
    return fmt::format("{}: {} bytes; a configuration has at most {}", path, size, kLargestFile);
  }
  std::ifstream file(path, std::ios::binary);
  text.resize(error ? 0 : static_cast<size_t>(size));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  return file && !error ? "" : fmt::format("{}: cannot be read", path);
}

}  // namespace ksa
