#include <cmath>
#include <cstdlib>
#include <string>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "trainer/report/page.h"
#include "trainer/report/report.h"

namespace ksa {
namespace {

using nlohmann::ordered_json;

// Six digits: more than a screen shows, and a third of the bytes. What is not finite is null.
ordered_json Rounded(double value) {
  if (!std::isfinite(value)) {
    return nullptr;
  }
  return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr);
}

ordered_json RoundedList(const std::vector<double>& values) {
  ordered_json list = ordered_json::array();
  for (const double value : values) {
    list.push_back(Rounded(value));
  }
  return list;
}

const char* NameOfKind(AttachmentKind kind) {
  switch (kind) {
    case AttachmentKind::kPositions:
      return "positions";
    case AttachmentKind::kTask:
      return "task";
    case AttachmentKind::kAttention:
      return "attention";
  }
  return "";
}

ordered_json JsonOf(const RunReport& run) {
  ordered_json json = {{"name", run.name},
                       {"folder", run.folder},
                       {"notes", run.notes},
                       {"updates", run.updates},
                       {"tokens", Rounded(run.tokens)},
                       {"hours", Rounded(run.hours)},
                       {"tokens_per_second", run.tokens_per_second ? Rounded(*run.tokens_per_second) : nullptr},
                       {"curves", ordered_json::array()},
                       {"files", ordered_json::array()}};
  for (const ReportCurve& curve : run.curves) {
    json["curves"].push_back({{"name", curve.name},
                              {"step", curve.steps},
                              {"tokens", RoundedList(curve.tokens)},
                              {"hours", RoundedList(curve.hours)},
                              {"value", RoundedList(curve.values)}});
  }
  for (const ReportAttachment& file : run.attachments) {
    json["files"].push_back(
        {{"file", file.file}, {"kind", NameOfKind(file.kind)}, {"data", ordered_json::parse(file.json)}});
  }
  return json;
}

}  // namespace

std::string ReportJson(const Report& report) {
  ordered_json json = {{"title", report.title},
                       {"version", report.version},
                       {"notes", report.notes},
                       {"runs", ordered_json::array()},
                       {"sweeps", ordered_json::array()},
                       {"differences", ordered_json::array()}};
  for (const RunReport& run : report.runs) {
    json["runs"].push_back(JsonOf(run));
  }
  for (const SweepReport& sweep : report.sweeps) {
    json["sweeps"].push_back(ordered_json::parse(sweep.json));
  }
  for (const ConfigRow& row : DifferingKeys(report.runs)) {
    json["differences"].push_back({{"key", row.key}, {"values", row.values}});
  }
  if (report.runs.size() == 1) {  // nothing to differ from: all of it
    for (const auto& [key, value] : report.runs.front().config) {
      json["config"].push_back({{"key", key}, {"values", {value}}});
    }
  }
  return EscapeJsonForHtml(json.dump(-1, ' ', true, ordered_json::error_handler_t::replace));
}

}  // namespace ksa
