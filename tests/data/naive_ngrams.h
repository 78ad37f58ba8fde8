// Interpolated Witten-Bell as its definition reads: followers of every history in a map, the probability by recursion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace ksa::testing {

class NaiveNgrams {
 public:
  NaiveNgrams(const std::vector<std::vector<int32_t>>& texts, size_t order, double vocab_size) : vocab_(vocab_size) {
    for (const std::vector<int32_t>& text : texts) {
      for (size_t i = 0; i < text.size(); ++i) {
        for (size_t length = 0; length < order && length <= i; ++length) {
          const auto at = text.begin() + static_cast<std::ptrdiff_t>(i);
          ++followers_[{at - static_cast<std::ptrdiff_t>(length), at}][text[i]];
        }
      }
    }
  }

  [[nodiscard]] double Probability(std::vector<int32_t> history, int32_t token) const {
    const double shorter = history.empty() ? 1 / vocab_ : Probability({history.begin() + 1, history.end()}, token);
    const auto found = followers_.find(history);
    if (found == followers_.end()) {
      return shorter;
    }
    double all = 0;
    for (const auto& [follower, count] : found->second) {
      all += count;
    }
    const auto types = static_cast<double>(found->second.size());
    const auto same = found->second.find(token);
    return ((same == found->second.end() ? 0 : same->second) + types * shorter) / (all + types);
  }

 private:
  double vocab_;
  std::map<std::vector<int32_t>, std::map<int32_t, double>> followers_;
};

}  // namespace ksa::testing
