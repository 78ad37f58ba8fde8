// What metrics.jsonl says of a whole run, over all of its starts.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "trainer/observe/step_report.h"

namespace ksa {

struct RunHistory {
  struct AtUpdate {
    int64_t step = 0;
    double loss = 0;
  };

  struct Source {
    AtUpdate last;
    AtUpdate best;  // the first of equals; of losses that are finite, where one is
  };

  std::optional<StepReport> last;            // the row of the last update
  std::map<std::string, Source> validation;  // by name of the source
  double seconds = 0;                        // of training, of all starts
  int64_t starts = 0;                        // that have made an update
};

// One pass over the file, which parses only the rows it needs. Of rows of the same update the last start's counts.
// Error(kMissingInput), kIo.
[[nodiscard]] RunHistory ReadHistory(const std::string& metrics_path);

}  // namespace ksa
