#include "data/files/json.h"

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"

namespace ksa {

nlohmann::json ParseJson(const std::string& text, const std::string& path, int most_depth) {
  // The depth is looked at before a level is entered: the tree that is thrown away stays as shallow as what is allowed.
  const auto check_depth = [&](int depth, nlohmann::json::parse_event_t /*event*/, nlohmann::json& /*parsed*/) {
    if (depth > most_depth) {
      Fail(ExitCode::kBadData, "{}: JSON nested deeper than {} levels; is it the right file?", path, most_depth);
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text, check_depth);
  } catch (const nlohmann::json::exception& error) {
    // The parser repeats what it read last, which may be most of the text.
    constexpr size_t kMostWords = 300;
    Fail(ExitCode::kBadData, "{}: not JSON: {:.{}}", path, error.what(), kMostWords);
  }
}

}  // namespace ksa
