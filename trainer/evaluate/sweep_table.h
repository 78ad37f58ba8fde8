// What came out of a sweep: its cells side by side, and against the cell with full attention.
#pragma once

#include <string>
#include <vector>

#include "trainer/config/sweep.h"
#include "trainer/evaluate/selection.h"
#include "trainer/observe/table.h"

namespace ksa {

// Columns of SummarizeSweep() that begin so are of a task: its name follows.
inline constexpr const char* kAccuracyColumn = "task_accuracy_";

// Whether the run folder of a cell holds its last checkpoint, made with a configuration that this one may resume: then
// there is nothing to do.
[[nodiscard]] bool IsComplete(const SweepCell& cell);

// Whether it was ever started, as far as to its log: a cell that is not complete then failed, or was cut off.
[[nodiscard]] bool HasBegun(const SweepCell& cell);

// A row a cell, read from its configuration and the metrics in its run folder; what is not there yet is unknown.
// `exit_codes` has one number a cell. Columns: docs/ablation.md. Those against full attention are unknown when no
// cell has full layers only.
[[nodiscard]] Table SummarizeSweep(const Sweep& sweep, const std::vector<int>& exit_codes);

// The same for people.
[[nodiscard]] std::string RenderSweepTable(const Sweep& sweep, const Table& table);

// The same for programs: {sweep, kv_length, full_attention_cell, rows, mean_over, means, select}.
[[nodiscard]] std::string SweepJson(const Sweep& sweep, const Table& table);

// table.txt, table.csv, table.json, and where there are means means.csv, in the sweep's folder. Error(kCannotCreate).
void WriteSweepTable(const Sweep& sweep, const Table& table);

}  // namespace ksa
