#include "trainer/report/thin.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/error.h"

namespace ksa {

std::vector<size_t> ThinPoints(const std::vector<double>& values, size_t most) {
  KSA_CHECK(most >= 4, "{} points are too few for a curve", most);
  std::vector<size_t> finite;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) {
      finite.push_back(i);
    }
  }
  if (finite.size() <= most) {
    return finite;
  }
  const size_t runs = (most - 2) / 2;
  std::vector<size_t> kept = {finite.front()};
  const auto keep = [&](size_t i) {
    if (i > kept.back()) {
      kept.push_back(i);
    }
  };
  for (size_t run = 0; run < runs; ++run) {
    const auto begin = finite.begin() + static_cast<std::ptrdiff_t>(run * finite.size() / runs);
    const auto end = finite.begin() + static_cast<std::ptrdiff_t>((run + 1) * finite.size() / runs);
    const auto [low, high] = std::minmax_element(begin, end, [&](size_t a, size_t b) { return values[a] < values[b]; });
    keep(std::min(*low, *high));
    keep(std::max(*low, *high));
  }
  keep(finite.back());
  return kept;
}

}  // namespace ksa
