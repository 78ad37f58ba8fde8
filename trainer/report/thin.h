// Curves of many points as curves of few that look the same.
#pragma once

#include <cstddef>
#include <vector>

namespace ksa {

// Which points to draw: the finite ones, at most about `most` of them. Where there are more they are taken in runs of
// equal length, and of each the smallest and the largest stay, so that no spike is lost; the first and the last always
// do. Rising. `most` >= 4.
[[nodiscard]] std::vector<size_t> ThinPoints(const std::vector<double>& values, size_t most);

}  // namespace ksa
