// How a task stands in a configuration: {task: NAME, name, keys of the task, and what its list adds}.
#pragma once

#include <string>
#include <vector>

#include "data/loader/data_config.h"
#include "trainer/config/codec.h"
#include "trainer/config/config.h"

namespace ksa {

// Whether a list's item names a task.
[[nodiscard]] bool IsTaskItem(const YamlNode& node);

// Reads the item. `name` is the task's where none is given. `training`: keys that only training has are known.
// `more`: fields of the list.
[[nodiscard]] bool ReadTaskItem(const YamlNode& node,
                                const Reporter& reporter,
                                bool training,
                                const std::vector<ItemField>& more,
                                TaskSpec& task,
                                std::string& name);

// "task: mqar, name: mqar, pairs: [4, 8]": what stands between the braces of an item.
[[nodiscard]] std::string TaskItemText(const TaskSpec& task, const std::string& name);

[[nodiscard]] Codec<EvaluationTask> EvaluationTaskCodec();

}  // namespace ksa
