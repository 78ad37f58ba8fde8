// `select` of a sweep: which cells run at all, and which are kept.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/config/sweep.h"

namespace ksa {

// How cell i of a sweep ended: an exit code of `ksa train`, 128 + n for signal n, or this.
inline constexpr int kCellNotRun = -1;

// Whether a cell with this code ended for a reason of its own: it was run and neither done nor stopped.
[[nodiscard]] bool CellFailed(int code);

enum class CellRole : int {
  kPlain,      // there is nothing to choose
  kCandidate,  // has a say, and its family has not decided yet
  kWaiting,    // runs if its value is chosen
  kKept,       // of the value that was chosen
  kRejected,   // of another one: does not run, and counts no more
  kNoChoice,   // no value of its family could be chosen: of each a cell failed, diverged, or lacks the metric
};

// What is known of a cell: its code, and where it is done the metric that `select` asks for.
struct CellScore {
  int code = kCellNotRun;
  std::optional<double> value;
};

// One role a cell. A choice is made once all judged cells of a family are done or have failed: of the values whose
// judged cells are all done with finite metrics, the one of the best mean; of equals the first.
[[nodiscard]] std::vector<CellRole> SelectCells(const Sweep& sweep, const std::vector<CellScore>& scores);

// The scores of cells with these codes, from their run folders.
[[nodiscard]] CellScore ScoreOf(const Sweep& sweep, const SweepCell& cell, int code);
[[nodiscard]] std::vector<CellScore> ScoresOf(const Sweep& sweep, const std::vector<int>& codes);

// Whether a cell that has not run may run now.
[[nodiscard]] inline bool MayRun(CellRole role) {
  return role == CellRole::kPlain || role == CellRole::kCandidate || role == CellRole::kKept;
}

}  // namespace ksa
