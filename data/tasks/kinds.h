// The tasks that there are, one function each.
#pragma once

#include "data/tasks/task.h"

namespace ksa {

[[nodiscard]] TaskKind RecallStreamKind();
[[nodiscard]] TaskKind MqarKind();
[[nodiscard]] TaskKind ForgettingKind();
[[nodiscard]] TaskKind NeedleKind();
[[nodiscard]] TaskKind VariableTrackingKind();
[[nodiscard]] TaskKind CopyKind();

// Of text.
[[nodiscard]] TaskKind NiahSingleKind();
[[nodiscard]] TaskKind NiahMultikeyKind();
[[nodiscard]] TaskKind NiahMultivalueKind();
[[nodiscard]] TaskKind VtKind();
[[nodiscard]] TaskKind CweKind();
[[nodiscard]] TaskKind FweKind();

}  // namespace ksa
