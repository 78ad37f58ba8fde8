// What is fuzzed: every reader of a file that somebody else may have made, by itself and with the file's bytes alone.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace ksa::testing {

struct FuzzTarget {
  std::string name;
  // Reads the bytes, which may also be written to files in `folder`. Returns when they are accepted, throws Error when
  // they are refused; anything else is a finding.
  std::function<void(const std::string& bytes, const std::string& folder)> read;
  // Sound inputs to begin from, besides those of the corpus.
  std::function<std::vector<std::string>(const std::string& folder)> seeds;
};

[[nodiscard]] const std::vector<FuzzTarget>& FuzzTargets();

}  // namespace ksa::testing
