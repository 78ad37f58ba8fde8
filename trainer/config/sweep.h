// The sweep file of `ksa ablate`: which configurations to run side by side.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/config/config.h"

namespace ksa {

// One run of a sweep.
struct SweepCell {
  std::string label;                  // what people read: "seed=1,chunk_size=4,window_chunks=16", "seed=1,full"
  std::vector<std::string> sets;      // "key=value" on top of the base, run.name and run.dir included
  Config config;                      // the base with `sets`; its run.dir is dir/CellFolderName(label)
  std::string axes;                   // the label's part of the axes (without select.over): cells of equal axes are
                                      // compared with each other
  std::string group;                  // the label without the keys of mean_over: cells of one group are repetitions
  std::string repetition;             // the label's part of the keys of mean_over
  std::vector<std::string> warnings;  // about `config`
  // Under `select`: cells of one family differ in the keys `over` and in those of mean_over alone, and those of one
  // choice are repetitions. `judged`: whether the cell has a say in which choice is kept.
  std::string family;
  std::string choice;
  bool judged = true;
};

// Which of several cells is kept: the best by a number of metrics.jsonl.
struct SweepSelect {
  static constexpr const char* kLoss = "validation_loss";     // the smallest; of one source behind '/', else the mean
  static constexpr const char* kAccuracy = "task_accuracy/";  // the largest; a task's name follows

  std::vector<std::string> over;  // keys of axes or zip, such as the learning rate
  std::string by;
  std::optional<uint64_t> seed;  // judge by the cells of this run.seed; none: by the mean over all of mean_over

  [[nodiscard]] bool IsLoss() const { return by.starts_with(kLoss); }

  // The validation source or task behind the '/'; empty: none is named.
  [[nodiscard]] std::string Name() const { return by.find('/') == by.npos ? "" : by.substr(by.find('/') + 1); }
};

struct Sweep {
  std::string name;
  std::string dir;                     // default: runs/<name>
  std::string base;                    // path of the base configuration, usable from the working directory
  std::optional<int64_t> kv_length;    // tokens at which KV caches are compared
  std::vector<std::string> mean_over;  // keys over which the table takes means; empty: none
  std::optional<SweepSelect> select;
  std::vector<SweepCell> cells;  // product of the axes (the first slowest) x the rows: zipped, then variants
  std::vector<std::string> warnings;
};

// The label as one part of a path: itself, or its first bytes and a hash of it where it is longer than 200 bytes.
[[nodiscard]] std::string CellFolderName(const std::string& label);

// Whether a file is a sweep, as far as its first keys tell, and no run configuration. Error(kMissingInput), kIo.
[[nodiscard]] bool IsSweepFile(const std::string& path);

// Reads the file (docs/configuration.md, sweeps) and the configuration of every cell. `base` is looked for beside the
// sweep file, then from the working directory. `common_sets` apply to every cell, before its own values.
// Error(kConfig) with every mistake, kMissingInput or kIo when a file cannot be read.
[[nodiscard]] Sweep LoadSweep(const std::string& path, const std::vector<std::string>& common_sets = {});

}  // namespace ksa
