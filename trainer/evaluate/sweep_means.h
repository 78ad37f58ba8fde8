// Means of a sweep over repetitions that differ in the keys of `mean_over` (seeds).
#pragma once

#include "trainer/config/sweep.h"
#include "trainer/observe/table.h"

namespace ksa {

// A row a group of cells, in order of their first cell: how many of them have a result, and mean and standard deviation
// (of the sample, n - 1; unknown for one) of each measured column of `cells`, the table of all cells (SummarizeSweep).
// Differences to full attention were taken within each repetition, so that what a seed does to both drops out.
[[nodiscard]] Table SweepMeans(const Sweep& sweep, const Table& cells);

}  // namespace ksa
