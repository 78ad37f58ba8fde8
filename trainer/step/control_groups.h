// What the control groups of this process allow.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace ksa {

// What the folder of one control group says; none: no limit. `version2`: of its files.
using LimitOfGroup = std::function<std::optional<double>(const std::string& folder, bool version2)>;

// The least limit of this process's own group and those above it, in both versions of control groups. `controller`: as
// version 1 calls it (cpu, memory). None where there is no limit. Files are read under `root`.
[[nodiscard]] std::optional<double> LeastLimit(const std::string& root,
                                               const std::string& controller,
                                               const LimitOfGroup& limit);

}  // namespace ksa
