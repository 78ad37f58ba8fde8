// What a sweep file says, before it is expanded into cells.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/config/problems.h"
#include "trainer/config/yaml_tree.h"

namespace ksa {

struct Override {
  std::string key;
  std::string value;  // YAML
};

using Overrides = std::vector<Override>;

struct SweepAxis {
  std::string key;
  std::vector<std::string> values;
};

// Keys that move together. A zipped row has no name of its own, a variant has one.
struct SweepRow {
  std::string label;
  Overrides overrides;
};

// `select` as written; rules between it and the rest are checked by ReadSweepDraft.
struct SelectDraft {
  Place place;
  std::vector<std::string> over;
  std::string by;
  std::optional<uint64_t> seed;
};

// The file as written.
struct SweepDraft {
  std::string name;
  std::optional<std::string> dir;
  std::string base;
  Place base_place;
  std::vector<SweepAxis> axes;
  std::vector<SweepRow> zip;
  std::vector<SweepRow> variants;
  std::vector<std::string> mean_over;
  std::optional<SelectDraft> select;
  std::optional<int64_t> kv_length;
};

// Whether a file with this key at its top is a sweep: run configurations have other keys.
[[nodiscard]] bool IsSweepKey(const std::string& key);

// Reads {name, dir, base, axes, zip, variants, select, mean_over, kv_length}; every mistake goes to `problems`.
[[nodiscard]] SweepDraft ReadSweepDraft(const YamlNode& root, Problems& problems);

}  // namespace ksa
