// What was built.
#pragma once

#include <string>

namespace ksa {

// "0.1.0 (5b66d40aabf8)": version and commit; "-changed" behind the commit: of a tree that differs from it; "0.1.0
// (commit unknown)": built from an archive without git.
[[nodiscard]] std::string ProgramVersion();

// Of the tree that was built, empty if it is not known; cmake/KsaCommit.cmake writes it.
extern const char* const kBuiltCommit;

}  // namespace ksa
