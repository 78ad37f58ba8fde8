#include "trainer/observe/log_header.h"

#include <unistd.h>

#include <array>
#include <ctime>
#include <filesystem>
#include <system_error>

#include <fmt/core.h>

#include "trainer/observe/shell_words.h"

namespace ksa {

std::string FormatDate(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S %z", &parts);
  return {text.data(), length};
}

std::string LogHeader(const Invocation& invocation, const LogPlace& place) {
  std::error_code unknown;
  const std::string folder = std::filesystem::current_path(unknown).string();
  return fmt::format(
      "# {} ksa {}, start {} of this run\n"
      "# command: {}\n"
      "# in: {}\n"
      "# host: {}, process {}\n"
      "# devices: {} {}, {} {} a rank\n",
      FormatDate(invocation.begin),
      invocation.version,
      place.attempt,
      ShellLine(invocation.arguments),
      unknown ? "a folder that is gone" : folder,
      place.host,
      getpid(),
      place.ranks == 1 ? "1 rank on" : fmt::format("{} ranks on", place.ranks),
      place.device,
      place.threads,
      place.threads == 1 ? "thread" : "threads");
}

}  // namespace ksa
