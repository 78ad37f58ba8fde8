// The `checkpoints` folder: names in it, room, and putting checkpoints in place without losing any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ksa {

// The step of a checkpoint's folder name (step_ and at least 8 digits); -1 for every other name.
[[nodiscard]] int64_t StepOfName(const std::string& name);

// Without the slashes at its end.
[[nodiscard]] std::string WithoutSlash(const std::string& path);

// <folder>/step_00001000.tmp-<run_id>.
[[nodiscard]] std::string TemporaryName(const std::string& folder, int64_t step, const std::string& run_id);

// Steps of the folders and links named as checkpoints, rising. Where a link leads is not asked: one into a disk that is
// not mounted is a checkpoint that cannot be read, not none. A folder that does not exist has no steps; Error(kIo) when
// it cannot be listed.
[[nodiscard]] std::vector<int64_t> StepsIn(const std::string& folder);

// The run_id of the manifest in a checkpoint folder; empty when there is none or it is damaged. Error(kIo) when it
// cannot be read.
[[nodiscard]] std::string OwnerOf(const std::string& checkpoint);

// Makes the folder, and the folder that it is in remember it. Error(kCannotCreate), Error(kIo).
void MakeCheckpointFolder(const std::string& folder);

// What earlier saves of this run left unfinished, or half removed.
[[nodiscard]] std::vector<std::string> UnfinishedIn(const std::string& folder, const std::string& run_id);

// Gives the finished temporary folder its name. What has the name is exchanged with it in one step where `replace` says
// so (the same run's, verified), and then lies under the temporary name; else it is moved aside, to <name>.replaced-N.
// Returns whether it was exchanged. Until the folder is flushed, nothing is durable. Error(kIo).
[[nodiscard]] bool PutInPlace(const std::string& folder, int64_t step, const std::string& run_id, bool replace);

}  // namespace ksa
