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
  std::string label;              // a folder name: "chunk_size=4,window_chunks=16", or the variant's
  std::vector<std::string> sets;  // "key=value" on top of the base, run.name and run.dir included
  Config config;                  // the base with `sets`; its run.dir is dir/label
};

struct Sweep {
  std::string name;
  std::string dir;                   // default: runs/<name>
  std::string base;                  // path of the base configuration, usable from the working directory
  std::optional<int64_t> kv_length;  // tokens at which KV caches are compared
  std::vector<SweepCell> cells;      // product of the axes (the first slowest) x the zipped rows, then the variants
};

// Reads {name, dir, base, axes, zip, variants, kv_length} and the configuration of every cell. `base` is looked for
// beside the sweep file, then from the working directory. `common_sets` apply to every cell, before its own values.
// Error(kConfig) with every mistake, kMissingInput when the sweep file cannot be read.
[[nodiscard]] Sweep LoadSweep(const std::string& path, const std::vector<std::string>& common_sets = {});

}  // namespace ksa
