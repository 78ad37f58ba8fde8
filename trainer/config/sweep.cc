#include "trainer/config/sweep.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "model/mixers/registry.h"
#include "trainer/config/cell_report.h"
#include "trainer/config/codec.h"
#include "trainer/config/load.h"
#include "trainer/config/read_file.h"
#include "trainer/config/schema.h"
#include "trainer/config/sweep_draft.h"

namespace ksa {
namespace {

constexpr size_t kMostCells = 10000;
constexpr size_t kLongestFolderName = 200;  // bytes; file systems allow 255, and files in it have names of their own

// A cell before its configuration is read.
struct CellPlan {
  std::string label;
  std::string axes;
  std::string group;
  std::string repetition;
  std::string family;
  std::string choice;
  bool judged = true;
  Overrides overrides;
};

std::string LastPart(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

// A value as a part of a label: lists without brackets, and nothing that a shell or a path takes for more.
std::string LabelOfValue(const std::string& value) {
  std::string label;
  for (const char c : value) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string_view(".-_+,").find(c) != std::string::npos) {
      label += c;
    } else if (c == ':') {
      label += '=';
    } else if (std::string_view(" \"'[]{}").find(c) == std::string::npos) {
      label += '_';
    }
  }
  return label;
}

std::string Joined(const std::string& left, const std::string& right) {
  return left + (left.empty() || right.empty() ? "" : ",") + right;
}

// "chunk_size=4,window_chunks=16": the last parts of the keys, or whole keys where those are not distinct in `all`.
std::string LabelOf(const Overrides& overrides, const Overrides& all) {
  std::string label;
  for (const Override& item : overrides) {
    const auto same = std::count_if(
        all.begin(), all.end(), [&](const Override& other) { return LastPart(other.key) == LastPart(item.key); });
    label = Joined(label, fmt::format("{}={}", same > 1 ? item.key : LastPart(item.key), LabelOfValue(item.value)));
  }
  return label;
}

bool Has(const std::vector<std::string>& keys, const std::string& key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

// Those of `overrides` whose keys are in none of the lists.
Overrides Without(const Overrides& overrides,
                  const std::vector<std::string>& keys,
                  const std::vector<std::string>& more = {}) {
  Overrides kept;
  for (const Override& item : overrides) {
    if (!Has(keys, item.key) && !Has(more, item.key)) {
      kept.push_back(item);
    }
  }
  return kept;
}

Overrides Only(const Overrides& overrides, const std::vector<std::string>& keys) {
  Overrides kept;
  for (const Override& item : overrides) {
    if (Has(keys, item.key)) {
      kept.push_back(item);
    }
  }
  return kept;
}

CellPlan PlanCell(const Overrides& axes, const SweepRow& row, const SweepDraft& draft) {
  const std::vector<std::string> over = draft.select ? draft.select->over : std::vector<std::string>();
  CellPlan cell;
  cell.overrides = axes;
  cell.overrides.insert(cell.overrides.end(), row.overrides.begin(), row.overrides.end());
  const auto label = [&](const Overrides& part) { return LabelOf(part, cell.overrides); };
  const auto row_label = [&](const Overrides& part) { return row.label.empty() ? label(part) : row.label; };
  cell.axes = label(Without(axes, over));
  cell.label = Joined(label(axes), row_label(row.overrides));
  cell.group = Joined(label(Without(axes, draft.mean_over)), row_label(row.overrides));
  cell.repetition = label(Only(axes, draft.mean_over));
  cell.family = Joined(label(Without(axes, draft.mean_over, over)), row_label(Without(row.overrides, over)));
  cell.choice = label(Only(cell.overrides, over));
  if (draft.select && draft.select->seed) {
    cell.judged = std::any_of(axes.begin(), axes.end(), [&](const Override& item) {
      return item.key == "run.seed" && item.value == std::to_string(*draft.select->seed);
    });
  }
  return cell;
}

// The product of the axes, then of it and the rows: the zipped ones, then the variants, one empty row without any.
std::vector<CellPlan> Expand(const SweepDraft& draft) {
  std::vector<Overrides> product = {{}};
  for (const SweepAxis& axis : draft.axes) {
    std::vector<Overrides> longer;
    for (const Overrides& values : product) {
      for (const std::string& value : axis.values) {
        longer.push_back(values);
        longer.back().push_back({axis.key, value});
      }
    }
    product = std::move(longer);
    if (product.size() > kMostCells) {
      return {};
    }
  }
  std::vector<SweepRow> rows = draft.zip;
  rows.insert(rows.end(), draft.variants.begin(), draft.variants.end());
  if (rows.empty() && !draft.axes.empty()) {
    rows.emplace_back();
  }
  if (product.size() * rows.size() > kMostCells) {
    return {};
  }
  std::vector<CellPlan> cells;
  for (const Overrides& values : product) {
    for (const SweepRow& row : rows) {
      cells.push_back(PlanCell(values, row, draft));
    }
  }
  return cells;
}

void CheckCells(const std::vector<CellPlan>& cells, Problems& problems) {
  const Reporter reporter(&problems, "document");
  if (cells.empty() || cells.size() > kMostCells) {
    reporter.Fail({}, fmt::format("expands to no cell, or to more than {}; change axes, zip or variants", kMostCells));
  }
  std::set<std::string> labels;
  for (const CellPlan& cell : cells) {
    if (!labels.insert(cell.label).second) {
      reporter.Fail({}, fmt::format("two cells are called {}; remove one of them", Quoted(cell.label)));
    }
    std::set<std::string> keys;
    for (const Override& item : cell.overrides) {
      if (!keys.insert(item.key).second) {
        reporter.Fail(
            {}, fmt::format("cell {} gives {} twice; keep it in axes or in its row", Quoted(cell.label), item.key));
      }
    }
  }
}

// Beside the sweep file, or from the working directory.
std::string FindBase(const SweepDraft& draft, const std::string& path, Problems& problems) {
  const std::filesystem::path beside = (std::filesystem::path(path).parent_path() / draft.base).lexically_normal();
  for (const std::filesystem::path& candidate : {beside, std::filesystem::path(draft.base)}) {
    if (IsFile(candidate.string())) {
      static_cast<void>(ReadConfigFile(candidate.string()));  // for all cells: whether it may be read
      return candidate.string();
    }
  }
  problems.Add(draft.base_place,
               "base",
               fmt::format("{}: no such file, neither beside this one nor in the working directory", beside.string()));
  return "";
}

// Loads every cell, and reports what is wrong with all of them.
void LoadCells(Sweep& sweep, const std::vector<CellPlan>& plans, const std::vector<std::string>& common_sets) {
  CellReport report;
  for (const CellPlan& plan : plans) {
    SweepCell cell{.label = plan.label,
                   .sets = common_sets,
                   .config = {},
                   .axes = plan.axes,
                   .group = plan.group,
                   .repetition = plan.repetition,
                   .warnings = {},
                   .family = plan.family,
                   .choice = plan.choice,
                   .judged = plan.judged};
    for (const Override& item : plan.overrides) {
      cell.sets.push_back(item.key + "=" + item.value);
    }
    const std::string folder = CellFolderName(plan.label);
    cell.sets.push_back("run.name=" + ScalarText(sweep.name + "-" + folder));
    cell.sets.push_back("run.dir=" + ScalarText((std::filesystem::path(sweep.dir) / folder).string()));
    try {
      LoadedConfig loaded = LoadConfig(sweep.base, cell.sets);
      cell.config = std::move(loaded.config);
      cell.warnings = std::move(loaded.warnings);
    } catch (const Error& error) {
      report.Add(plan.label, error.what());
    }
    sweep.cells.push_back(std::move(cell));
  }
  if (!report.empty()) {
    throw Error(ExitCode::kConfig, report.Text(plans.size()));
  }
}

bool HasSource(const Config& config, const std::string& name) {
  const std::vector<ValidationSource>& sources = config.data.validation;
  return std::any_of(sources.begin(), sources.end(), [&](const ValidationSource& source) {
    return name.empty() || source.name == name;
  });
}

bool HasTask(const Config& config, const std::string& name) {
  const std::vector<EvaluationTask>& tasks = config.evaluation.tasks;
  return std::any_of(tasks.begin(), tasks.end(), [&](const EvaluationTask& task) { return task.name == name; });
}

// What a choice is made by has to be measured in every cell.
void CheckMeasured(const Sweep& sweep, const std::string& path) {
  CellReport report;
  const SweepSelect& select = *sweep.select;
  for (const SweepCell& cell : sweep.cells) {
    const std::string name = select.Name();
    const bool there = select.IsLoss() ? HasSource(cell.config, name) : HasTask(cell.config, name);
    if (there && cell.config.evaluation.interval > 0) {
      continue;
    }
    const std::string what = select.IsLoss()
                                 ? (name.empty() ? "a source" : "the source " + Quoted(name)) + " in data.validation"
                                 : "the task " + Quoted(name) + " in evaluation.tasks";
    report.Add(
        cell.label,
        fmt::format(
            "{}: select.by: {} is not measured; it needs evaluation.interval > 0 and {}", path, select.by, what));
  }
  if (!report.empty()) {
    throw Error(ExitCode::kConfig, report.Text(sweep.cells.size()));
  }
}

// Where the text window w·k moves with k, a difference between cells can come from either. (The only window of a cell
// that counts is the one it sets for all layers of a kind.)
void WarnOfMovingWindow(Sweep& sweep) {
  std::map<int32_t, std::set<int64_t>> windows;  // by k
  std::set<int64_t> all;
  for (const SweepCell& cell : sweep.cells) {
    const ModelConfig& model = cell.config.model;
    for (const MixerKind* kind : KindsOf(model)) {
      if (const std::optional<int64_t> window = kind->TextWindow(model)) {
        windows[model.ChunkSize()].insert(*window);
        all.insert(*window);
      }
    }
  }
  const bool alike = std::all_of(
      windows.begin(), windows.end(), [&](const auto& entry) { return entry.second == windows.begin()->second; });
  if (!alike) {
    sweep.warnings.push_back(fmt::format(
        "the text window, chunk_size x window_chunks, moves with chunk_size ({} tokens), so that a difference "
        "between cells can come from either; set both keys in each row of zip, with one product",
        fmt::join(all, ", ")));
  }
}

}  // namespace

std::string CellFolderName(const std::string& label) {
  if (label.size() <= kLongestFolderName) {
    return label;
  }
  const std::string hash = fmt::format("-{:016x}", XXH3_64bits(label.data(), label.size()));
  return label.substr(0, kLongestFolderName - hash.size()) + hash;
}

bool IsSweepFile(const std::string& path) {
  Problems ignored;
  const YamlNode root = ParseYaml(ReadConfigFile(path), ignored.AddFile(path), "", ignored);
  const auto names = [&](auto&& is) {
    return std::any_of(root.entries.begin(), root.entries.end(), [&](const YamlEntry& entry) { return is(entry.key); });
  };
  return names([](const std::string& key) { return IsSweepKey(key); }) &&
         !names([](const std::string& key) { return IsKnownPath(key); });
}

Sweep LoadSweep(const std::string& path, const std::vector<std::string>& common_sets) {
  const std::string text = ReadConfigFile(path);
  Problems problems;
  const YamlNode root = ParseYaml(text, problems.AddFile(path), "", problems);
  const SweepDraft draft = ReadSweepDraft(root, problems);
  problems.ThrowIfAny();
  const std::vector<CellPlan> plans = Expand(draft);
  CheckCells(plans, problems);
  Sweep sweep;
  sweep.name = draft.name;
  sweep.dir = draft.dir.value_or("runs/" + draft.name);
  sweep.base = FindBase(draft, path, problems);
  sweep.kv_length = draft.kv_length;
  sweep.mean_over = draft.mean_over;
  if (draft.select) {
    sweep.select = SweepSelect{draft.select->over, draft.select->by, draft.select->seed};
  }
  problems.ThrowIfAny();
  LoadCells(sweep, plans, common_sets);
  if (sweep.select) {
    CheckMeasured(sweep, path);
  }
  WarnOfMovingWindow(sweep);
  return sweep;
}

}  // namespace ksa
