#include "trainer/config/sweep.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <sstream>
#include <utility>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/config/codec.h"
#include "trainer/config/load.h"
#include "trainer/config/read_file.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

struct Override {
  std::string key;
  std::string value;  // YAML
};

using Overrides = std::vector<Override>;

struct Axis {
  std::string key;
  std::vector<std::string> values;
};

struct Variant {
  std::string label;
  Overrides overrides;
};

// The file as written.
struct SweepDraft {
  std::string name;
  std::optional<std::string> dir;
  std::string base;
  Place base_place;
  std::vector<Axis> axes;
  std::vector<Overrides> zip;
  std::vector<Variant> variants;
  std::optional<int64_t> kv_length;
};

constexpr size_t kMostCells = 10000;

bool CheckMapping(const YamlNode& node, const Reporter& reporter, const std::string& what) {
  return node.kind == YamlNode::Kind::kMapping ||
         (node.kind != YamlNode::Kind::kInvalid &&
          reporter.Fail(node.place, fmt::format("expected {}, got {}", what, Describe(node))));
}

bool CheckKey(const YamlEntry& entry, const Reporter& reporter) {
  if (!IsKnownPath(entry.key)) {
    return reporter.Field(entry.key).Fail(entry.key_place, AdviseUnknownPath(entry.key));
  }
  if (entry.key == "run" || entry.key == "run.name" || entry.key == "run.dir") {
    return reporter.Field(entry.key).Fail(entry.key_place, "the sweep names its runs and their folders; remove it");
  }
  return true;
}

bool ReadOverrides(const YamlNode& node, const Reporter& reporter, Overrides& out) {
  if (!CheckMapping(node, reporter, "a mapping of keys to values")) {
    return false;
  }
  bool good = true;
  for (const YamlEntry& entry : node.entries) {
    good = CheckKey(entry, reporter) && good;
    out.push_back({entry.key, FlowText(entry.value)});
  }
  return good;
}

bool ReadAxes(const YamlNode& node, const Reporter& reporter, std::vector<Axis>& out) {
  if (!CheckMapping(node, reporter, "a mapping of keys to lists of values")) {
    return false;
  }
  bool good = true;
  for (const YamlEntry& entry : node.entries) {
    good = CheckKey(entry, reporter) && good;
    if (entry.value.kind != YamlNode::Kind::kSequence || entry.value.items.empty()) {
      good = reporter.Field(entry.key).Fail(
          entry.value.place,
          fmt::format("expected a list of values, got {}",
                      entry.value.kind == YamlNode::Kind::kSequence ? "an empty one" : Describe(entry.value)));
      continue;
    }
    Axis axis{entry.key, {}};
    for (const YamlNode& value : entry.value.items) {
      axis.values.push_back(FlowText(value));
    }
    out.push_back(std::move(axis));
  }
  return good;
}

std::set<std::string> KeysOf(const Overrides& overrides) {
  std::set<std::string> keys;
  for (const Override& item : overrides) {
    keys.insert(item.key);
  }
  return keys;
}

bool ReadZip(const YamlNode& node, const Reporter& reporter, std::vector<Overrides>& out) {
  if (node.kind != YamlNode::Kind::kSequence) {
    return node.kind != YamlNode::Kind::kInvalid &&
           reporter.Fail(node.place, fmt::format("expected a list of {{key: value, ...}}, got {}", Describe(node)));
  }
  bool good = true;
  for (size_t i = 0; i < node.items.size(); ++i) {
    Overrides row;
    good = ReadOverrides(node.items[i], reporter.Item(i), row) && good;
    if (good && !out.empty() && KeysOf(row) != KeysOf(out.front())) {
      good = reporter.Item(i).Fail(node.items[i].place, "has other keys than the first row; give each row the same");
    }
    out.push_back(std::move(row));
  }
  return good;
}

bool ReadVariants(const YamlNode& node, const Reporter& reporter, std::vector<Variant>& out) {
  if (!CheckMapping(node, reporter, "a mapping of labels to {key: value, ...}")) {
    return false;
  }
  bool good = true;
  for (const YamlEntry& entry : node.entries) {
    const auto allowed = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
    };
    if (entry.key.empty() || !std::all_of(entry.key.begin(), entry.key.end(), allowed)) {
      good = reporter.Field(entry.key).Fail(entry.key_place, "a label has letters, digits, '_' and '-' only");
    }
    Variant variant{entry.key, {}};
    good = ReadOverrides(entry.value, reporter.Field(entry.key), variant.overrides) && good;
    out.push_back(std::move(variant));
  }
  return good;
}

SweepDraft ReadDraft(const YamlNode& root, Problems& problems) {
  SweepDraft draft;
  const Codec<std::string> text = TextCodec();
  const Codec<std::optional<std::string>> optional_text = OptionalCodec(text, "");
  const Codec<std::optional<int64_t>> length = OptionalCodec(IntegerCodec<int64_t>(1, kMostUpdates), "");
  const Reporter reporter(&problems, "");
  std::set<std::string> seen;
  const auto field = [&](const std::string& name, auto read) {
    return ItemField{name, [&seen, name, read](const YamlNode& node, const Reporter& at) {
                       seen.insert(name);
                       return read(node, at);
                     }};
  };
  const std::vector<ItemField> fields = {
      field("name",
            [&](const YamlNode& node, const Reporter& at) {
              return text.read(node, at, draft.name) &&
                     (draft.name.find('/') == std::string::npos ||
                      at.Fail(node.place, "must be usable as a folder name; remove '/'"));
            }),
      field("dir", [&](const YamlNode& node, const Reporter& at) { return optional_text.read(node, at, draft.dir); }),
      field("base",
            [&](const YamlNode& node, const Reporter& at) {
              draft.base_place = node.place;
              return text.read(node, at, draft.base);
            }),
      field("axes", [&](const YamlNode& node, const Reporter& at) { return ReadAxes(node, at, draft.axes); }),
      field("zip", [&](const YamlNode& node, const Reporter& at) { return ReadZip(node, at, draft.zip); }),
      field("variants",
            [&](const YamlNode& node, const Reporter& at) { return ReadVariants(node, at, draft.variants); }),
      field("kv_length",
            [&](const YamlNode& node, const Reporter& at) { return length.read(node, at, draft.kv_length); })};
  if (root.kind != YamlNode::Kind::kMapping) {
    static_cast<void>(ReadItem(root, Reporter(&problems, "document"), fields));
    return draft;
  }
  static_cast<void>(ReadItem(root, reporter, fields));
  for (const char* name : {"name", "base"}) {
    if (seen.count(name) == 0) {
      reporter.Field(name).Fail({}, "missing; every sweep has it");
    }
  }
  if (seen.count("axes") + seen.count("zip") + seen.count("variants") == 0) {
    reporter.Field("axes").Fail({}, "missing; a sweep has at least one of axes, zip and variants");
  }
  return draft;
}

std::string LastPart(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

// "chunk_size=4,window_chunks=16": the last parts of the keys, or whole keys where those are not distinct.
std::string LabelOf(const Overrides& overrides) {
  std::string label;
  for (const Override& item : overrides) {
    const auto same = std::count_if(overrides.begin(), overrides.end(), [&](const Override& other) {
      return LastPart(other.key) == LastPart(item.key);
    });
    label += fmt::format("{}{}=", label.empty() ? "" : ",", same > 1 ? item.key : LastPart(item.key));
    for (const char c : item.value) {
      const bool safe =
          std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_' || c == '+';
      label += safe ? std::string(1, c) : c == ' ' || c == '"' ? "" : "_";
    }
  }
  return label;
}

// The product of the axes and the zipped rows, then the variants.
std::vector<Variant> Expand(const SweepDraft& draft) {
  std::vector<Overrides> rows = {{}};
  for (const Axis& axis : draft.axes) {
    std::vector<Overrides> longer;
    for (const Overrides& row : rows) {
      for (const std::string& value : axis.values) {
        longer.push_back(row);
        longer.back().push_back({axis.key, value});
      }
    }
    rows = std::move(longer);
    if (rows.size() > kMostCells) {
      return {};
    }
  }
  std::vector<Variant> cells;
  const std::vector<Overrides> zip = draft.zip.empty() ? std::vector<Overrides>{{}} : draft.zip;
  for (const Overrides& row : rows) {
    for (const Overrides& zipped : zip) {
      Overrides all = row;
      all.insert(all.end(), zipped.begin(), zipped.end());
      if (!all.empty()) {
        cells.push_back({LabelOf(all), all});
      }
    }
  }
  cells.insert(cells.end(), draft.variants.begin(), draft.variants.end());
  return cells;
}

void CheckCells(const std::vector<Variant>& cells, Problems& problems) {
  const Reporter reporter(&problems, "document");
  if (cells.empty() || cells.size() > kMostCells) {
    reporter.Fail({}, fmt::format("expands to no cell, or to more than {}; change axes, zip or variants", kMostCells));
  }
  std::set<std::string> labels;
  for (const Variant& cell : cells) {
    if (!labels.insert(cell.label).second) {
      reporter.Fail({}, fmt::format("two cells are called {}; remove one of them", Quoted(cell.label)));
    }
    if (KeysOf(cell.overrides).size() != cell.overrides.size()) {
      reporter.Fail({}, fmt::format("cell {} gives a key twice; keep it in axes or in zip", Quoted(cell.label)));
    }
  }
}

// Beside the sweep file, or from the working directory.
std::string FindBase(const SweepDraft& draft, const std::string& path, Problems& problems) {
  const std::filesystem::path beside = (std::filesystem::path(path).parent_path() / draft.base).lexically_normal();
  for (const std::filesystem::path& candidate : {beside, std::filesystem::path(draft.base)}) {
    if (std::filesystem::is_regular_file(candidate)) {
      return candidate.string();
    }
  }
  problems.Add(draft.base_place,
               "base",
               fmt::format("{}: no such file, neither beside this one nor in the working directory", beside.string()));
  return "";
}

// Loads every cell; a line of a report that several cells share is said once, with the first of them.
void LoadCells(Sweep& sweep, const std::vector<Variant>& cells, const std::vector<std::string>& common_sets) {
  std::set<std::string> reported;
  std::string report;
  for (const Variant& variant : cells) {
    SweepCell cell{variant.label, common_sets, {}};
    for (const Override& item : variant.overrides) {
      cell.sets.push_back(item.key + "=" + item.value);
    }
    cell.sets.push_back("run.name=" + ScalarText(sweep.name + "-" + variant.label));
    cell.sets.push_back("run.dir=" + ScalarText((std::filesystem::path(sweep.dir) / variant.label).string()));
    try {
      cell.config = LoadConfig(sweep.base, cell.sets).config;
    } catch (const Error& error) {
      std::istringstream lines{std::string(error.what())};
      for (std::string line; std::getline(lines, line);) {
        if (reported.insert(line).second) {
          report += fmt::format("{}cell {}: {}", report.empty() ? "" : "\n", variant.label, line);
        }
      }
    }
    sweep.cells.push_back(std::move(cell));
  }
  if (!report.empty()) {
    throw Error(ExitCode::kConfig, report);
  }
}

}  // namespace

Sweep LoadSweep(const std::string& path, const std::vector<std::string>& common_sets) {
  std::string text;
  if (const std::string problem = ReadConfigFile(path, text); !problem.empty()) {
    Fail(ExitCode::kMissingInput, "{}", problem);
  }
  Problems problems;
  const YamlNode root = ParseYaml(text, problems.AddFile(path), "", problems);
  const SweepDraft draft = ReadDraft(root, problems);
  problems.ThrowIfAny();
  const std::vector<Variant> cells = Expand(draft);
  CheckCells(cells, problems);
  Sweep sweep;
  sweep.name = draft.name;
  sweep.dir = draft.dir.value_or("runs/" + draft.name);
  sweep.base = FindBase(draft, path, problems);
  sweep.kv_length = draft.kv_length;
  problems.ThrowIfAny();
  LoadCells(sweep, cells, common_sets);
  return sweep;
}

}  // namespace ksa
