// The `checkpoints` folder: names in it, and the ways of adding and removing checkpoints that lose none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ksa {

// The step of a checkpoint's folder name (step_ and at least 8 digits); -1 for every other name.
[[nodiscard]] int64_t StepOfName(const std::string& name);

// <folder>/step_00001000.tmp-<run_id>.
[[nodiscard]] std::string TemporaryName(const std::string& folder, int64_t step, const std::string& run_id);

// Steps of the real folders (no links) named as checkpoints, rising. A folder that does not exist has none.
[[nodiscard]] std::vector<int64_t> StepsIn(const std::string& folder);

// The run_id of the manifest in a checkpoint folder; empty when there is none or it cannot be read.
[[nodiscard]] std::string OwnerOf(const std::string& checkpoint);

// Makes the folder and checks that `bytes` fit on its disk. Error(kCannotCreate), Error(kIo).
void PrepareCheckpointFolder(const std::string& folder, int64_t bytes);

// Removes what earlier writers of this run left unfinished.
void RemoveUnfinished(const std::string& folder, const std::string& run_id);

// Gives the finished temporary folder its name. A checkpoint of the same run and step is replaced at once and then
// removed; whatever else has the name is moved aside, to <name>.replaced-N.
void Install(const std::string& folder, int64_t step, const std::string& run_id);

// Removes this run's checkpoints of steps before `newest` until with it `keep_last` are left. Never touches links,
// other names, other runs' checkpoints, or ones whose manifest cannot be read.
void Prune(const std::string& folder, int64_t newest, int32_t keep_last, const std::string& run_id);

}  // namespace ksa
