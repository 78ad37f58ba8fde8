#include "trainer/evaluate/sampling.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/philox.h"

namespace ksa {
namespace {

double UniformAt(uint64_t seed, uint64_t step) {
  const auto bits = Philox4x32(NamedKey(seed, "sampling"), step);
  return static_cast<double>((static_cast<uint64_t>(bits[0]) << 21U) | (bits[1] >> 11U)) * 0x1p-53;
}

}  // namespace

int32_t SampleToken(std::span<const double> logits, const SamplingOptions& options, uint64_t step, uint64_t text) {
  KSA_CHECK(!logits.empty(), "there are no logits to sample from");
  if (options.temperature == 0.0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  // Ties go to the smaller id, so that the choice does not depend on the sort.
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const double x = logits[static_cast<size_t>(a)];
    const double y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < order.size()) {
    order.resize(static_cast<size_t>(options.top_k));
  }
  const double best = logits[static_cast<size_t>(order[0])];
  std::vector<double> cumulative;
  double sum = 0.0;
  for (const int32_t id : order) {
    sum += std::exp((logits[static_cast<size_t>(id)] - best) / options.temperature);
    cumulative.push_back(sum);
  }
  if (options.top_p < 1.0) {
    const auto enough = std::lower_bound(cumulative.begin(), cumulative.end(), options.top_p * sum);
    cumulative.erase(std::next(enough), cumulative.end());
    sum = cumulative.back();
  }
  const double u = UniformAt(options.seed, (text << 32U) + step) * sum;
  const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), u);
  return order[std::min(static_cast<size_t>(found - cumulative.begin()), cumulative.size() - 1)];
}

}  // namespace ksa
