#include "trainer/evaluate/sweep_table.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "model/ksa/cost.h"
#include "model/mixers/mixer.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/config/load.h"
#include "trainer/evaluate/sweep_means.h"
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
};

int64_t KvLength(const Sweep& sweep) {
  return sweep.kv_length.value_or(sweep.cells.front().config.training.sequence_length);
}

bool HasFullLayersOnly(const ModelConfig& model) {
  return std::all_of(
      model.layers.begin(), model.layers.end(), [](const LayerSpec& layer) { return layer->IsFullAttention(); });
}

void AddMetrics(const std::string& path, CellFacts& facts) {
  if (!Exists(path)) {
    return;
  }
  std::vector<double> speeds;
  for (const MetricsLine& line : ReadMetrics(path)) {
    facts.steps = line.report.step;
    facts.final_loss = line.report.loss;
    if (std::isfinite(line.report.tokens_per_second)) {
      speeds.push_back(line.report.tokens_per_second);
    }
    if (!line.report.validation_loss.empty()) {
      facts.validation_by_source = line.report.validation_loss;
    }
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

std::string DescribeExit(int code) {
  if (code == kCellNotRun) {
    return "not run";
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

// With one validation source its loss is the mean, which has a column already.
std::vector<TableColumn> Columns(const std::set<std::string>& sources) {
  std::vector<TableColumn> columns = {{"cell", "cell", 0},
                                      {"status", "status", 0},
                                      {"steps", "steps", 0},
                                      {"parameters", "parameters", 0},
                                      {"final_loss", "loss", 4},
                                      {"validation_loss", "validation", 4}};
  for (const std::string& source : sources) {
    columns.push_back({kValidationPrefix + source, source, 4});
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

std::vector<TableCell> RowOf(const std::string& label,
                             int exit_code,
                             const CellFacts& facts,
                             const CellFacts* full,
                             const std::set<std::string>& sources) {
  std::vector<TableCell> row = {label,
                                DescribeExit(exit_code),
                                Known(facts.steps),
                                facts.parameters,
                                Known(facts.final_loss),
                                Known(facts.validation_loss)};
  for (const std::string& source : sources) {
    const auto found = facts.validation_by_source.find(source);
    row.emplace_back();
    if (found != facts.validation_by_source.end()) {
      row.back() = found->second;
    }
  }
  row.insert(row.end(), {Known(facts.tokens_per_second), facts.keys_a_query, facts.kv_entries, facts.kv_bytes});
  if (full == nullptr) {
    row.resize(row.size() + 5);
  } else {
    row.insert(row.end(),
               {Difference(facts.final_loss, full->final_loss),
                Difference(facts.validation_loss, full->validation_loss),
                Ratio(facts.tokens_per_second, full->tokens_per_second),
                facts.keys_a_query / full->keys_a_query,
                facts.kv_bytes / full->kv_bytes});
  }
  return row;
}

// The cell that `cell` is compared with: of those with full layers only the first that has the same values of the axes,
// else of the same repetition, else the first at all. -1 without one.
int64_t FullCellFor(const Sweep& sweep, const SweepCell& cell) {
  int64_t best = -1;
  int best_likeness = -1;
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    const SweepCell& other = sweep.cells[i];
    const int likeness = other.axes == cell.axes ? 2 : other.repetition == cell.repetition ? 1 : 0;
    if (HasFullLayersOnly(other.config.model) && likeness > best_likeness) {
      best = static_cast<int64_t>(i);
      best_likeness = likeness;
    }
  }
  return best;
}

bool HasFullCell(const Sweep& sweep) {
  return FullCellFor(sweep, sweep.cells.front()) >= 0;
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

Table SummarizeSweep(const Sweep& sweep, const std::vector<int>& exit_codes) {
  KSA_CHECK(exit_codes.size() == sweep.cells.size(), "{} codes for {} cells", exit_codes.size(), sweep.cells.size());
  std::vector<CellFacts> facts;
  std::set<std::string> sources;
  for (const SweepCell& cell : sweep.cells) {
    facts.push_back(FactsOf(cell, KvLength(sweep)));
    for (const auto& [source, loss] : facts.back().validation_by_source) {
      sources.insert(source);
    }
  }
  if (sources.size() < 2) {
    sources.clear();
  }
  Table table(Columns(sources));
  for (size_t i = 0; i < facts.size(); ++i) {
    const int64_t full = FullCellFor(sweep, sweep.cells[i]);
    const CellFacts* base = full < 0 ? nullptr : &facts[static_cast<size_t>(full)];
    table.AddRow(RowOf(sweep.cells[i].label, exit_codes[i], facts[i], base, sources));
  }
  return table;
}

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
                        SweepMeans(sweep, table).Text());
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

void WriteSweepTable(const Sweep& sweep, const Table& table) {
  MakeFolders(sweep.dir);
  nlohmann::ordered_json json = {
      {"sweep", sweep.name}, {"kv_length", KvLength(sweep)}, {"full_attention_cell", nullptr}};
  if (HasFullCell(sweep)) {
    json["full_attention_cell"] = sweep.cells[static_cast<size_t>(FullCellFor(sweep, sweep.cells.front()))].label;
  }
  json["rows"] = nlohmann::ordered_json::parse(table.Json());
  if (!sweep.mean_over.empty()) {
    const Table means = SweepMeans(sweep, table);
    json["mean_over"] = sweep.mean_over;
    json["means"] = nlohmann::ordered_json::parse(means.Json());
    WriteFileAtomically(sweep.dir + "/means.csv", means.Csv());
  }
  WriteFileAtomically(sweep.dir + "/table.txt", RenderSweepTable(sweep, table));
  WriteFileAtomically(sweep.dir + "/table.csv", table.Csv());
  WriteFileAtomically(sweep.dir + "/table.json", json.dump(2) + "\n");
}

}  // namespace ksa
