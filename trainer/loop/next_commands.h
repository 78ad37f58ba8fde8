// What a person may type when a run has ended.
#pragma once

#include <string>
#include <vector>

#include "trainer/config/config.h"
#include "trainer/observe/invocation.h"

namespace ksa {

struct EndState {
  bool stopped = false;       // by a request; the run goes on when it is started again
  bool at_hard_stop = false;  // training.hard_stop has ended it, before max_steps
  bool has_checkpoint = false;
  bool spells_text = false;  // the run's tokenizer turns text into ids and back
  int ranks = 1;
};

// Whole commands for a shell in the folder that the run was started in, the program called as it was; where only the
// person knows the line (several ranks), a remark that begins with #.
[[nodiscard]] std::vector<std::string> NextCommands(const Config& config,
                                                    const Invocation& invocation,
                                                    const EndState& end);

}  // namespace ksa
