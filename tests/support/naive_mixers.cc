#include "tests/support/naive_mixer.h"

namespace ksa::testing {

std::vector<NaiveMixer> NaiveMixers() {
  std::vector<NaiveMixer> mixers = NaiveAttentionMixers();
  mixers.push_back(NaiveHcaMixer());
  mixers.push_back(NaiveGdnMixer());
  return mixers;
}

}  // namespace ksa::testing
