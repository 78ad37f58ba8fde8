// `ksa eval --task`: accuracy of a checkpoint on a task, by what the task shows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/files/result_file.h"
#include "trainer/commands/session.h"

namespace ksa {

struct EvalTaskOptions {
  std::string task;              // NAME[:key=value,...]
  std::vector<int32_t> lengths;  // tokens of the sequences; empty: the run's
  std::vector<double> depths;    // of tasks that have them; empty: as the task says
  int64_t samples = 0;           // of each length and depth; 0: 500
  std::optional<uint64_t> seed;  // none: the run's
  std::optional<int32_t> micro_batch_size;
};

// Prints tables, and writes them to `json` where there is one. Error(kUsage): an unknown task or key, a length beyond
// the model's positions, depths of a task that has none; kConfig: a sample that does not fit a length; kBadData: a
// vocabulary too small; kMissingInput: a text task, and the run's tokenizer is not there.
void EvalTask(LoadedModel& loaded, const EvalTaskOptions& options, std::optional<ResultFile>& json);

}  // namespace ksa
