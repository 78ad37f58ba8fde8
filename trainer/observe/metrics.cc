#include "trainer/observe/metrics.h"

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

using nlohmann::ordered_json;

double NumberOr(const nlohmann::json& object, const char* key, double missing) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : missing;
}

// Numbers by name, which older rows lack.
template <typename T>
void ReadNumbers(const nlohmann::json& object, const char* key, std::map<std::string, T>& out) {
  if (const auto found = object.find(key); found != object.end()) {
    for (const auto& [name, value] : found->items()) {
      out[name] = value.is_number() ? value.template get<T>() : std::numeric_limits<T>::quiet_NaN();
    }
  }
}

template <typename T>
void WriteNumbers(ordered_json& object, const char* key, const std::map<std::string, T>& numbers) {
  if (!numbers.empty()) {
    object[key] = ordered_json::object();
    for (const auto& [name, value] : numbers) {
      object[key][name] = value;
    }
  }
}

}  // namespace

std::optional<MetricsLine> ParseMetricsLine(const std::string& text) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  try {
    const nlohmann::json object = ParseJson(text, "a line of metrics");
    MetricsLine line;
    line.run_id = object.at("run_id").get<std::string>();
    line.attempt = object.at("attempt").get<int64_t>();
    StepReport& report = line.report;
    report.step = object.at("step").get<int64_t>();
    report.tokens = object.at("tokens").get<int64_t>();
    report.loss = NumberOr(object, "loss", nan);
    report.grad_norm = NumberOr(object, "grad_norm", nan);
    report.lr = NumberOr(object, "lr", nan);
    if (const auto terms = object.find("loss_terms"); terms != object.end()) {
      for (const auto& [name, value] : terms->items()) {
        report.loss_terms[name] = value.is_number() ? value.get<double>() : nan;
      }
    }
    report.max_logit = NumberOr(object, "max_logit", nan);
    report.max_attention_lse = NumberOr(object, "max_attention_lse", nan);
    for (const auto& [name, value] : object.at("validation_loss").items()) {
      report.validation_loss[name] = value.is_number() ? value.get<double>() : nan;
    }
    ReadNumbers(object, "task_accuracy", report.task_accuracy);
    ReadNumbers(object, "solved_at", report.solved_at);
    ReadNumbers(object, "loss_by_source", report.loss_by_source);
    report.tokens_per_second = NumberOr(object, "tokens_per_second", nan);
    if (const double mfu = NumberOr(object, "mfu", nan); !std::isnan(mfu)) {
      report.mfu = mfu;
    }
    report.memory = object.at("memory").get<int64_t>();
    report.data_wait_ms = NumberOr(object, "data_wait_ms", nan);
    report.comm_wait_ms = NumberOr(object, "comm_wait_ms", nan);
    report.seconds = NumberOr(object, "seconds", nan);
    return line;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // not a line of ours
  } catch (const Error&) {
    return std::nullopt;  // not JSON: a torn line
  }
}

void ForMetricsRows(const std::string& path, const std::function<void(const std::string&)>& work) {
  if (!Exists(path)) {
    Fail(ExitCode::kMissingInput, "{}: there are no metrics here", path);
  }
  static_cast<void>(File::OpenForReading(path));  // says why it can't be read
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    work(text);
  }
}

std::string RenderMetricsLine(const MetricsLine& line) {
  const StepReport& report = line.report;
  // Numbers that are not finite become null: JSON has no others.
  ordered_json object;
  object["run_id"] = line.run_id;
  object["attempt"] = line.attempt;
  object["step"] = report.step;
  object["tokens"] = report.tokens;
  object["loss"] = report.loss;
  object["grad_norm"] = report.grad_norm;
  object["lr"] = report.lr;
  for (const auto& [name, value] : report.loss_terms) {
    object["loss_terms"][name] = value;
  }
  object["max_logit"] = report.max_logit;
  object["max_attention_lse"] = report.max_attention_lse;
  object["validation_loss"] = ordered_json::object();
  for (const auto& [name, loss] : report.validation_loss) {
    object["validation_loss"][name] = loss;
  }
  WriteNumbers(object, "task_accuracy", report.task_accuracy);
  WriteNumbers(object, "solved_at", report.solved_at);
  WriteNumbers(object, "loss_by_source", report.loss_by_source);
  object["tokens_per_second"] = report.tokens_per_second;
  object["mfu"] = report.mfu ? ordered_json(*report.mfu) : ordered_json();
  object["memory"] = report.memory;
  object["data_wait_ms"] = report.data_wait_ms;
  object["comm_wait_ms"] = report.comm_wait_ms;
  object["seconds"] = report.seconds;
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

MetricsWriter::MetricsWriter(const std::string& path, std::string run_id, int64_t attempt)
    : run_id_(std::move(run_id)), attempt_(attempt), file_(path, AppendFile::Kind::kRecords) {}

void MetricsWriter::Write(const StepReport& report) {
  file_.Append(RenderMetricsLine({run_id_, attempt_, report}) + "\n");
}

std::vector<MetricsLine> ReadMetrics(const std::string& path) {
  std::map<int64_t, MetricsLine> by_step;
  ForMetricsRows(path, [&](const std::string& text) {
    std::optional<MetricsLine> line = ParseMetricsLine(text);
    if (!line) {
      return;
    }
    const auto found = by_step.find(line->report.step);
    if (found == by_step.end() || found->second.attempt <= line->attempt) {
      by_step.insert_or_assign(line->report.step, std::move(*line));
    }
  });
  std::vector<MetricsLine> lines;
  for (auto& [step, line] : by_step) {
    lines.push_back(std::move(line));
  }
  return lines;
}

std::optional<MetricsLine> FindMetrics(const std::string& path, int64_t step) {
  const std::string mark = fmt::format("\"step\":{},", step);  // as it is written: parsing every line would take long
  std::optional<MetricsLine> last;
  ForMetricsRows(path, [&](const std::string& text) {
    if (text.find(mark) == std::string::npos) {
      return;
    }
    std::optional<MetricsLine> line = ParseMetricsLine(text);
    if (line && line->report.step == step && (!last || last->attempt <= line->attempt)) {
      last = std::move(line);
    }
  });
  return last;
}

std::optional<MetricsLine> LastAttemptOf(const std::string& path) {
  std::optional<MetricsLine> last;
  ForMetricsRows(path, [&](const std::string& text) {
    std::optional<MetricsLine> line = ParseMetricsLine(text);
    if (line && (!last || last->attempt <= line->attempt)) {
      last = std::move(line);
    }
  });
  return last;
}

}  // namespace ksa
