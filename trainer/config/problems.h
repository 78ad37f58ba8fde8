// Where a value was written, and the list of everything that is wrong with a configuration.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ksa {

// A place in one of the sources of a configuration: its files in the order of Problems::AddFile, then its --set values.
struct Place {
  int source = 0;
  int line = 1;    // from 1
  int column = 1;  // from 1
};

// Collects mistakes instead of stopping at the first.
class Problems {
 public:
  [[nodiscard]] int AddFile(const std::string& name);
  [[nodiscard]] int AddSet(const std::string& assignment);  // "key=value"

  // `path` is the key the message is about, as in training.max_steps or data.train[1].weight.
  void Add(const Place& place, const std::string& path, const std::string& message);

  [[nodiscard]] bool empty() const { return problems_.empty(); }

  // "file:line" of a place in a file, "--set" otherwise.
  [[nodiscard]] std::string Origin(const Place& place) const;

  // One line a problem, sorted by source, line and column.
  [[nodiscard]] std::string Report() const;

  // Error(kConfig) with the report, if there is anything to report.
  void ThrowIfAny() const;

 private:
  struct Source {
    std::string name;
    bool is_set = false;
  };

  struct Problem {
    Place place;
    std::string path;
    std::string message;
  };

  std::vector<Source> sources_;
  std::vector<Problem> problems_;
};

// `text` in quotes for a message: control characters escaped, long text cut.
[[nodiscard]] std::string Quoted(std::string_view text);

// "a, b, c"
[[nodiscard]] std::string Joined(const std::vector<std::string>& items);

// The candidate that `text` was most likely meant to be: few edits away, or the one that starts like it; "" if none.
[[nodiscard]] std::string NearestName(const std::string& text, const std::vector<std::string>& candidates);

}  // namespace ksa
