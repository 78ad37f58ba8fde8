// JSON files of ours and of others, read with bounds: a hostile file is an error, never a crash.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace ksa {

// Deep enough for every format that is read; a file that nests deeper is refused.
inline constexpr int kMostJsonDepth = 64;

// Parses a whole text in UTF-8. Error(kBadData) naming `path`: not JSON (with the place), or nested deeper than
// `most_depth`.
[[nodiscard]] nlohmann::json ParseJson(const std::string& text,
                                       const std::string& path,
                                       int most_depth = kMostJsonDepth);

}  // namespace ksa
