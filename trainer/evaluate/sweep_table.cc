#include "trainer/evaluate/sweep_table.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "model/ksa/cost.h"
#include "model/mixers/mixer.h"
#include "model/mixers/mla/mla_mixer.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/config/load.h"
#include "trainer/evaluate/sweep_means.h"
#include "trainer/observe/metric_series.h"
#include "trainer/observe/metrics.h"

namespace ksa {
namespace {

// What is known of a cell.
struct CellFacts {
  int64_t parameters = 0;
  double keys_a_query = 0.0;
  double kv_entries = 0.0;  // a token
  double kv_bytes = 0.0;    // a token
  std::optional<int64_t> steps;
  std::optional<double> final_loss;
  std::optional<double> tokens_per_second;
  std::optional<double> validation_loss;               // mean over the sources
  std::map<std::string, double> validation_by_source;  // of the last validation
  std::map<std::string, double> accuracy_by_task;      // the last of each
};

// What there is to say of a cell besides its facts.
struct CellState {
  int code = kCellNotRun;
  CellRole role = CellRole::kPlain;
  bool begun = false;
};

int64_t KvLength(const Sweep& sweep) {
  return sweep.kv_length.value_or(sweep.cells.front().config.training.sequence_length);
}

bool HasFullLayersOnly(const ModelConfig& model) {
  return std::all_of(
      model.layers.begin(), model.layers.end(), [](const LayerSpec& layer) { return layer->IsFullAttention(); });
}

// Latents save cache themselves: they are no measure of what others save.
bool HasLatents(const ModelConfig& model) {
  return std::any_of(model.layers.begin(), model.layers.end(), [](const LayerSpec& layer) {
    return dynamic_cast<const MlaMixer*>(&*layer) != nullptr;
  });
}

void AddMetrics(const std::string& path, CellFacts& facts) {
  if (!Exists(path)) {
    return;
  }
  const MetricSeries series = ReadMetricSeries(path);
  if (series.steps.empty()) {
    return;
  }
  facts.steps = series.steps.back();
  if (const std::vector<double>* loss = series.Find("loss")) {
    facts.final_loss = loss->back();
  }
  for (const std::string& name : series.NamesOf("validation_loss")) {
    facts.validation_by_source[name] = series.Last("validation_loss/" + name)->value;
  }
  for (const std::string& name : series.NamesOf("task_accuracy")) {
    facts.accuracy_by_task[name] = series.Last("task_accuracy/" + name)->value;
  }
  std::vector<double> speeds;
  if (const std::vector<double>* all = series.Find("tokens_per_second")) {
    std::copy_if(all->begin(), all->end(), std::back_inserter(speeds), [](double x) { return std::isfinite(x); });
  }
  if (!speeds.empty()) {
    std::nth_element(speeds.begin(), speeds.begin() + static_cast<int64_t>(speeds.size() / 2), speeds.end());
    facts.tokens_per_second = speeds[speeds.size() / 2];
  }
  double sum = 0.0;
  for (const auto& [name, loss] : facts.validation_by_source) {
    sum += loss;
  }
  if (!facts.validation_by_source.empty()) {
    facts.validation_loss = sum / static_cast<double>(facts.validation_by_source.size());
  }
}

CellFacts FactsOf(const SweepCell& cell, int64_t kv_length) {
  const ModelConfig& model = cell.config.model;
  const CacheSize cache = CountKvCache(model, kv_length);
  CellFacts facts = {.parameters = TotalParameters(model),
                     .keys_a_query = KeysPerTextQuery(model, cell.config.training.sequence_length),
                     .kv_entries = static_cast<double>(cache.entries) / static_cast<double>(kv_length),
                     .kv_bytes = static_cast<double>(cache.bytes) / static_cast<double>(kv_length)};
  AddMetrics(cell.config.run.dir + "/metrics.jsonl", facts);
  return facts;
}

std::string DescribeNotRun(const CellState& state) {
  switch (state.role) {
    case CellRole::kRejected:
      return "not chosen";
    case CellRole::kNoChoice:
      return "no choice";
    case CellRole::kWaiting:
      return "waits";
    default:
      return state.begun ? "unfinished" : "not run";
  }
}

std::string DescribeExit(const CellState& state) {
  const int code = state.code;
  if (code == kCellNotRun) {
    return DescribeNotRun(state);
  }
  if (code == static_cast<int>(ExitCode::kDone)) {
    return "done";
  }
  if (code == static_cast<int>(ExitCode::kStopped) || code == static_cast<int>(ExitCode::kStoppedByPerson)) {
    return "stopped";
  }
  return code > 128 ? fmt::format("killed by signal {}", code - 128) : fmt::format("failed ({})", code);
}

template <typename T>
TableCell Known(const std::optional<T>& value) {
  return value.has_value() ? TableCell(*value) : TableCell();
}

TableCell Difference(const std::optional<double>& value, const std::optional<double>& base) {
  return value.has_value() && base.has_value() ? TableCell(*value - *base) : TableCell();
}

TableCell Ratio(const std::optional<double>& value, const std::optional<double>& base) {
  return value.has_value() && base.has_value() ? TableCell(*value / *base) : TableCell();
}

constexpr const char* kValidationPrefix = "validation_loss_";

// What has a column for itself, if some cell has it.
struct NamedColumns {
  std::set<std::string> sources;  // of validation, where there are several
  std::set<std::string> tasks;
  bool choice = false;
};

// With one validation source its loss is the mean, which has a column already.
std::vector<TableColumn> Columns(const NamedColumns& names) {
  std::vector<TableColumn> columns = {{"cell", "cell", 0}, {"status", "status", 0}};
  if (names.choice) {
    columns.push_back({"choice", "choice", 0});
  }
  for (const TableColumn& column : std::vector<TableColumn>{{"steps", "steps", 0},
                                                            {"parameters", "parameters", 0},
                                                            {"final_loss", "loss", 4},
                                                            {"validation_loss", "validation", 4}}) {
    columns.push_back(column);
  }
  for (const std::string& source : names.sources) {
    columns.push_back({kValidationPrefix + source, source, 4});
  }
  for (const std::string& task : names.tasks) {
    columns.push_back({kAccuracyColumn + task, task, 4});
  }
  for (const TableColumn& column : std::vector<TableColumn>{{"tokens_per_second", "tokens/s", 0},
                                                            {"keys_a_query", "keys/query", 1},
                                                            {"kv_entries_a_token", "KV entries/token", 3},
                                                            {"kv_bytes_a_token", "KV bytes/token", 0},
                                                            {"final_loss_minus_full", "final loss", 4},
                                                            {"validation_loss_minus_full", "validation", 4},
                                                            {"tokens_per_second_over_full", "tokens/s", 2},
                                                            {"keys_a_query_over_full", "keys/query", 3},
                                                            {"kv_bytes_over_full", "KV bytes", 3}}) {
    columns.push_back(column);
  }
  return columns;
}

TableCell ValueOf(const std::map<std::string, double>& values, const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? TableCell() : TableCell(found->second);
}

std::vector<TableCell> RowOf(const std::string& label,
                             const CellState& state,
                             const CellFacts& facts,
                             const CellFacts* full,
                             const NamedColumns& names) {
  std::vector<TableCell> row = {label, DescribeExit(state)};
  if (names.choice) {
    row.push_back(state.role == CellRole::kKept ? TableCell("best") : TableCell());
  }
  row.insert(row.end(), {Known(facts.steps), facts.parameters, Known(facts.final_loss), Known(facts.validation_loss)});
  for (const std::string& source : names.sources) {
    row.push_back(ValueOf(facts.validation_by_source, source));
  }
  for (const std::string& task : names.tasks) {
    row.push_back(ValueOf(facts.accuracy_by_task, task));
  }
  row.insert(row.end(), {Known(facts.tokens_per_second), facts.keys_a_query, facts.kv_entries, facts.kv_bytes});
  if (full == nullptr) {
    row.resize(row.size() + 5);
  } else {
    const bool comparable = facts.steps == full->steps;  // one that was stopped has seen less
    row.insert(row.end(),
               {comparable ? Difference(facts.final_loss, full->final_loss) : TableCell(),
                comparable ? Difference(facts.validation_loss, full->validation_loss) : TableCell(),
                Ratio(facts.tokens_per_second, full->tokens_per_second),
                facts.keys_a_query / full->keys_a_query,
                facts.kv_bytes / full->kv_bytes});
  }
  return row;
}

// The cell that `cell` is compared with: of those with full layers only one that has the same values of the axes, else
// of the same repetition, else any; of several the first, one without latents before others. Those that `select`
// rejects stay out of it, as long as there are others. -1 without one.
int64_t FullCellFor(const Sweep& sweep, const SweepCell& cell, const std::vector<CellRole>& roles) {
  int64_t best = -1;
  std::pair<int, bool> best_likeness = {-1, false};
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    const SweepCell& other = sweep.cells[i];
    const int kept = roles.empty() || roles[i] != CellRole::kRejected ? 3 : 0;
    const int shared = other.axes == cell.axes ? 2 : other.repetition == cell.repetition ? 1 : 0;
    const std::pair<int, bool> likeness = {kept + shared, !HasLatents(other.config.model)};
    if (HasFullLayersOnly(other.config.model) && likeness > best_likeness) {
      best = static_cast<int64_t>(i);
      best_likeness = likeness;
    }
  }
  return best;
}

bool HasFullCell(const Sweep& sweep) {
  return FullCellFor(sweep, sweep.cells.front(), {}) >= 0;
}

// The columns of a text table whose keys have one of these endings, or none of them.
std::vector<std::string> KeysOfColumns(const Table& table, const std::vector<std::string>& endings, bool with) {
  std::vector<std::string> keys;
  for (const TableColumn& column : table.columns()) {
    const bool ends = std::any_of(
        endings.begin(), endings.end(), [&](const std::string& ending) { return column.key.ends_with(ending); });
    if (column.key == "cell" || ends == with) {
      keys.push_back(column.key);
    }
  }
  return keys;
}

bool LacksValidation(const Config& config, int64_t update) {
  const std::string path = config.run.dir + "/metrics.jsonl";
  if (!Exists(path)) {
    return false;
  }
  const std::optional<MetricsLine> row = FindMetrics(path, update);
  return row && row->report.validation_loss.empty();
}

}  // namespace

bool IsComplete(const SweepCell& cell) {
  Config config = cell.config;
  const std::vector<int64_t> steps = StepsIn(config.run.dir + "/checkpoints");
  const int64_t last =
      std::min(config.training.max_steps, config.training.hard_stop.value_or(config.training.max_steps));
  const std::string resolved = config.run.dir + "/config.resolved.yaml";
  if (steps.empty() || steps.back() < last || !Exists(resolved)) {
    return false;
  }
  if (config.evaluation.interval > 0 && !config.data.validation.empty() && LacksValidation(config, last)) {
    return false;  // a stop left the last validation out: the next start makes it
  }
  const Config done = LoadConfig(resolved).config;
  // What `auto` meant was decided where the cell ran, which need not be here; whether a GPU is there now is no matter.
  if (config.run.device == DeviceChoice::kAuto) {
    config.run.device = done.run.device;
  }
  ResolveDevice(config, true);
  const std::vector<ConfigDifference> differences = DiffConfigs(done, config);
  return std::all_of(
      differences.begin(), differences.end(), [](const ConfigDifference& difference) { return difference.allowed; });
}

bool HasBegun(const SweepCell& cell) {
  return Exists(cell.config.run.dir + "/log.txt");
}

Table SummarizeSweep(const Sweep& sweep, const std::vector<int>& exit_codes) {
  KSA_CHECK(exit_codes.size() == sweep.cells.size(), "{} codes for {} cells", exit_codes.size(), sweep.cells.size());
  const std::vector<CellRole> roles = SelectCells(sweep, ScoresOf(sweep, exit_codes));
  std::vector<CellFacts> facts;
  NamedColumns names;
  names.choice = sweep.select.has_value();
  for (const SweepCell& cell : sweep.cells) {
    facts.push_back(FactsOf(cell, KvLength(sweep)));
    for (const auto& [source, loss] : facts.back().validation_by_source) {
      names.sources.insert(source);
    }
    for (const auto& [task, accuracy] : facts.back().accuracy_by_task) {
      names.tasks.insert(task);
    }
  }
  if (names.sources.size() < 2) {
    names.sources.clear();
  }
  Table table(Columns(names));
  for (size_t i = 0; i < facts.size(); ++i) {
    const int64_t full = FullCellFor(sweep, sweep.cells[i], roles);
    const CellFacts* base = full < 0 ? nullptr : &facts[static_cast<size_t>(full)];
    table.AddRow(
        RowOf(sweep.cells[i].label, {exit_codes[i], roles[i], HasBegun(sweep.cells[i])}, facts[i], base, names));
  }
  return table;
}

namespace {

// Without what the other tables have as well: lines of a hundred columns.
std::string MeansText(const Table& means) {
  std::vector<std::string> keys;
  for (const TableColumn& column : means.columns()) {
    if (!column.key.starts_with("kv_")) {
      keys.push_back(column.key);
    }
  }
  return means.Text(keys);
}

}  // namespace

std::string RenderSweepTable(const Sweep& sweep, const Table& table) {
  const std::vector<std::string> costs = {"parameters", "keys_a_query", "a_token"};
  const std::vector<std::string> relative = {"_full"};
  std::vector<std::string> results;
  for (const std::string& key : KeysOfColumns(table, costs, false)) {
    if (!key.ends_with("_full")) {
      results.push_back(key);
    }
  }
  std::string text = fmt::format("sweep {}\n\n", sweep.name);
  if (!sweep.mean_over.empty()) {
    text += fmt::format("means and standard deviations over {}\n\n{}\n",
                        fmt::join(sweep.mean_over, ", "),
                        MeansText(SweepMeans(sweep, table)));
  }
  if (sweep.select) {
    text += fmt::format("of cells that differ in {} the best by {} is kept{}\n\n",
                        fmt::join(sweep.select->over, ", "),
                        sweep.select->by,
                        sweep.select->seed ? fmt::format(" (chosen by run.seed {})", *sweep.select->seed) : "");
  }
  text += table.Text(results);
  text += fmt::format("\nkeys a text query at the training length; KV cache of all layers at {} tokens, bf16\n\n{}",
                      KvLength(sweep),
                      table.Text(KeysOfColumns(table, costs, true)));
  if (HasFullCell(sweep)) {
    text += fmt::format("\nagainst full attention{} (losses: difference in nats; the rest: ratio)\n\n{}",
                        sweep.cells.front().axes.empty() ? "" : " with the same values of the axes",
                        table.Text(KeysOfColumns(table, relative, true)));
  }
  return text;
}

std::string SweepJson(const Sweep& sweep, const Table& table) {
  nlohmann::ordered_json json = {
      {"sweep", sweep.name}, {"kv_length", KvLength(sweep)}, {"full_attention_cell", nullptr}};
  if (HasFullCell(sweep)) {
    json["full_attention_cell"] = sweep.cells[static_cast<size_t>(FullCellFor(sweep, sweep.cells.front(), {}))].label;
  }
  json["rows"] = nlohmann::ordered_json::parse(table.Json());
  if (!sweep.mean_over.empty()) {
    json["mean_over"] = sweep.mean_over;
    json["means"] = nlohmann::ordered_json::parse(SweepMeans(sweep, table).Json());
  }
  if (sweep.select) {
    json["select"] = {{"over", sweep.select->over}, {"by", sweep.select->by}};
  }
  return json.dump(2) + "\n";
}

void WriteSweepTable(const Sweep& sweep, const Table& table) {
  MakeFolders(sweep.dir);
  if (!sweep.mean_over.empty()) {
    WriteFileAtomically(sweep.dir + "/means.csv", SweepMeans(sweep, table).Csv());
  }
  WriteFileAtomically(sweep.dir + "/table.txt", RenderSweepTable(sweep, table));
  WriteFileAtomically(sweep.dir + "/table.csv", table.Csv());
  WriteFileAtomically(sweep.dir + "/table.json", SweepJson(sweep, table));
}

}  // namespace ksa
