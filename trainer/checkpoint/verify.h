// Reading a checkpoint's manifest, and every byte of it: by one process, or shared among ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/checked.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa {

// The manifest of the checkpoint in the folder `path`, checked. Error(kMissingInput) when nothing is there, kBadData
// when it is no whole checkpoint, kIo when it cannot be read.
[[nodiscard]] Checkpoint ReadCheckpoint(const std::string& path);

// What became of looking at a checkpoint of which only the place is known.
struct Examined {
  Checkpoint checkpoint;      // good if there are no faults
  std::vector<Fault> faults;  // of all ranks
  bool gone = false;          // it was pruned or replaced meanwhile: what was found says nothing

  [[nodiscard]] bool good() const { return faults.empty(); }
};

// Reads the checkpoint in the folder `path` whole, every rank a share of its files; all get the same answer. Its
// manifest must be of step `step`, if any.
[[nodiscard]] Examined Examine(const std::string& path, std::optional<int64_t> step, Communicator& world);

// Remembers what was found out, if it is certain: what could not be read may be good.
void RememberAnswer(CheckedCheckpoints& checked, const std::string& path, const Examined& examined);

// The refusal of one with faults.
[[nodiscard]] RefusedCheckpoint RefusalOf(const std::string& path, const std::vector<Fault>& faults);

// Lists as bytes, for exchanges between ranks: entries, which hold no zero byte, end with one.
[[nodiscard]] std::string JoinList(const std::vector<std::string>& list);
[[nodiscard]] std::vector<std::string> SplitList(const std::string& bytes);

}  // namespace ksa
