// Which libraries of communication this program runs with.
#pragma once

#include <string>

namespace ksa {

// Name and version of MPI: "Open MPI v4.1.4". Needs no session.
[[nodiscard]] std::string MpiLibrary();

// "2.28.9"; empty in a build without NCCL.
[[nodiscard]] std::string NcclVersion();

}  // namespace ksa
