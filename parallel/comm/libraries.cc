#include "parallel/comm/libraries.h"

#include <fmt/core.h>
#include <mpi.h>

#ifdef KSA_HAVE_NCCL
#include <nccl.h>
#endif

namespace ksa {

std::string MpiLibrary() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string all(text, static_cast<size_t>(length));
  return all.substr(0, all.find_first_of(",\n"));
}

std::string NcclVersion() {
#ifdef KSA_HAVE_NCCL
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess
             ? fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100)
             : "unknown";
#else
  return {};
#endif
}

}  // namespace ksa
