#include "tests/support/naive_mixer.h"

namespace ksa::testing {

std::vector<NaiveMixer> NaiveMixers() {
  return NaiveAttentionMixers();
}

}  // namespace ksa::testing
