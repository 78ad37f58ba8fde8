#include <string>

#include <nlohmann/json.hpp>

#include "trainer/observe/table.h"
#include "trainer/report/report.h"

namespace ksa {
namespace {

using nlohmann::json;

TableCell NumberIn(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_number() ? TableCell(found->get<double>())
                                                                           : TableCell();
}

std::string CurvesCsv(const Report& report) {
  Table table({{"run", ""}, {"series", ""}, {"step", ""}, {"tokens", ""}, {"hours", ""}, {"value", ""}});
  for (const RunReport& run : report.runs) {
    for (const ReportCurve& curve : run.curves) {
      for (size_t i = 0; i < curve.values.size(); ++i) {
        table.AddRow({run.name, curve.name, curve.steps[i], curve.tokens[i], curve.hours[i], curve.values[i]});
      }
    }
  }
  return table.Csv();
}

void AddPositions(const std::string& run, const ReportAttachment& file, const json& data, Table& table) {
  const json& losses = data["by_position"];
  for (size_t i = 0; i < losses.size(); ++i) {
    table.AddRow({run,
                  file.file,
                  static_cast<int64_t>(i),
                  losses[i].is_number() ? TableCell(losses[i].get<double>()) : TableCell()});
  }
}

json ListIn(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_array() ? *found : json::array();
}

std::string TextOf(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

void AddTask(const std::string& run, const ReportAttachment& file, const json& data, Table& table) {
  const std::string task = TextOf(data["task"]);
  table.AddRow({run, file.file, task, "all", "", NumberIn(data, "accuracy"), NumberIn(data, "samples")});
  const auto add = [&](const std::string& by, const json& rows) {
    for (const json& row : rows.is_array() ? rows : json::array()) {
      const std::string value = row.is_object() && row.contains("value") ? TextOf(row["value"]) : "";
      table.AddRow({run, file.file, task, by, value, NumberIn(row, "accuracy"), NumberIn(row, "targets")});
    }
  };
  for (const auto& [by, rows] : data["by"].items()) {
    add(by, rows);
  }
  for (const json& row : ListIn(data, "by_length_and_depth")) {
    add("depth at length " + (row.is_object() && row.contains("length") ? TextOf(row["length"]) : ""),
        ListIn(row, "depths"));
  }
}

void AddAttention(const std::string& run, const ReportAttachment& file, const json& data, Table& table) {
  for (const json& one : data["layers"]) {
    const json share = one.is_object() ? one.value("share", json::object()) : json::object();
    const auto row = [&](const std::string& part, const TableCell& from, const TableCell& to, const TableCell& value) {
      table.AddRow({run, file.file, NumberIn(one, "layer"), NumberIn(one, "head"), part, from, to, value});
    };
    row("window", {}, {}, NumberIn(share, "window"));
    row("own", {}, {}, NumberIn(share, "own"));
    for (const json& age : ListIn(share, "summaries_by_age")) {
      row("summaries", NumberIn(age, "from"), NumberIn(age, "to"), NumberIn(age, "share"));
    }
  }
}

// Whatever columns the rows have, in the order in which they come.
std::string SweepCsv(const Report& report) {
  std::vector<TableColumn> columns = {{"sweep", ""}};
  const auto all = [&](auto&& work) {
    for (const SweepReport& sweep : report.sweeps) {
      const auto parsed = nlohmann::ordered_json::parse(sweep.json);
      for (const auto& row : parsed["rows"]) {
        work(sweep.name, row);
      }
    }
  };
  all([&](const std::string&, const auto& row) {
    for (const auto& [key, value] : row.items()) {
      bool known = false;
      for (const TableColumn& column : columns) {
        known = known || column.key == key;
      }
      if (!known) {
        columns.push_back({key, ""});
      }
    }
  });
  Table table(columns);
  all([&](const std::string& sweep, const auto& row) {
    std::vector<TableCell> cells = {sweep};
    for (size_t c = 1; c < columns.size(); ++c) {
      const auto found = row.find(columns[c].key);
      const bool there = found != row.end() && !found->is_null();
      cells.push_back(!there ? TableCell()
                      : found->is_number()
                          ? TableCell(found->template get<double>())
                          : TableCell(found->is_string() ? found->template get<std::string>() : found->dump()));
    }
    table.AddRow(std::move(cells));
  });
  return table.Csv();
}

}  // namespace

std::vector<std::pair<std::string, std::string>> ReportCsv(const Report& report) {
  Table positions({{"run", ""}, {"file", ""}, {"position", ""}, {"loss", ""}});
  Table tasks({{"run", ""}, {"file", ""}, {"task", ""}, {"by", ""}, {"value", ""}, {"accuracy", ""}, {"targets", ""}});
  Table attention(
      {{"run", ""}, {"file", ""}, {"layer", ""}, {"head", ""}, {"part", ""}, {"from", ""}, {"to", ""}, {"share", ""}});
  for (const RunReport& run : report.runs) {
    for (const ReportAttachment& file : run.attachments) {
      const json data = json::parse(file.json);
      switch (file.kind) {
        case AttachmentKind::kPositions:
          AddPositions(run.name, file, data, positions);
          break;
        case AttachmentKind::kTask:
          AddTask(run.name, file, data, tasks);
          break;
        case AttachmentKind::kAttention:
          AddAttention(run.name, file, data, attention);
          break;
      }
    }
  }
  std::vector<std::pair<std::string, std::string>> files = {{"curves.csv", CurvesCsv(report)}};
  const std::pair<const char*, const Table*> more[] = {
      {"positions.csv", &positions}, {"tasks.csv", &tasks}, {"attention.csv", &attention}};
  for (const auto& [name, table] : more) {
    if (!table->rows().empty()) {
      files.emplace_back(name, table->Csv());
    }
  }
  if (!report.sweeps.empty()) {
    files.emplace_back("sweep.csv", SweepCsv(report));
  }
  return files;
}

}  // namespace ksa
