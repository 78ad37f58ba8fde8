#include "parallel/comm/singleton.h"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace ksa {

void PrepareSingleton() {
  constexpr std::array kOfLaunchers = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"};
  const bool launched = std::any_of(
      kOfLaunchers.begin(), kOfLaunchers.end(), [](const char* name) { return std::getenv(name) != nullptr; });
  if (!launched) {
    static_cast<void>(setenv("OMPI_MCA_plm", "isolated", 0));
  }
}

}  // namespace ksa
