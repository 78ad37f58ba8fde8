// A resume whose learning rate jumps: a schedule that was decayed already, and is made longer.
#pragma once

#include <string>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config.h"

namespace ksa {

// What to warn of when a run goes on from `checkpoint` with `now`: the next learning rate is above the one that the
// checkpoint's own schedule, in its decay, had come down to. What the decay has brought is then lost again; the warning
// names the newest checkpoint beside it from before the decay, which could be extended without that. Empty where the
// rate does not jump. Error(kBadData) when the checkpoint's configuration cannot be read; kIo.
[[nodiscard]] std::string ScheduleJump(const Config& now, const Checkpoint& checkpoint);

}  // namespace ksa
