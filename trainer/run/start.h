// Where a start begins: the rules of resuming. Everything here reads; nothing is changed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/checked.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config.h"
#include "trainer/run/run_folder.h"

namespace ksa {

// What this start has, to be compared with what a checkpoint was made with.
struct DataFacts {
  std::string fingerprint;
  // Rank 0: throws Error(kBadData) when a checkpoint was trained with another tokenizer; false: its own is not known.
  std::function<bool(const Checkpoint&)> check_tokenizer;
  // The same of a Hugging Face folder.
  std::function<bool(const std::string&)> check_folder = {};
};

struct Start {
  std::optional<Checkpoint> checkpoint;          // whose weights and moments the run goes on from
  std::optional<Checkpoint> weights;             // else: whose weights a new run begins with (checkpoint.load),
  std::optional<std::string> folder;             // or the Hugging Face folder that checkpoint.load names
  std::optional<CheckpointOrigin> resumed_from;  // of the run: where checkpoint.resume: PATH let it begin
  bool record_first = false;  // the folder holds checkpoints, and nothing says that the run has made any
  std::vector<std::string> notes;
  std::vector<std::string> warnings;

  // The checkpoint that there is to load; null: none.
  [[nodiscard]] const Checkpoint* source() const { return checkpoint ? &*checkpoint : weights ? &*weights : nullptr; }

  // Updates that are done.
  [[nodiscard]] int64_t step() const { return checkpoint ? checkpoint->manifest.meta.step : 0; }
};

// The same on every rank, and so are its errors:
// kBadData: checkpoints, of which none verifies; checkpoint.load of a run with another tokenizer;
// kMissingInput: none, although the run has made some; no checkpoint at the path that is given;
// kIo: a checkpoint newer than the newest good one that cannot be read;
// kCannotCreate: checkpoints that this start would go back behind; resume: never in a folder with a past;
// kConfig: a configuration or training data that a resume may not change.
[[nodiscard]] Start DecideStart(const Config& config,
                                const DataFacts& facts,
                                const RunPaths& paths,
                                Communicator& world,
                                CheckedCheckpoints* checked = nullptr);

}  // namespace ksa
