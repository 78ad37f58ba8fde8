#include "trainer/commands/bench_report.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"

namespace ksa {

Timing Measure(int repeats, const Stream& stream, const std::function<void()>& function) {
  using Clock = std::chrono::steady_clock;
  function();
  Synchronize(stream);
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    Event start;
    Event end;
    const Clock::time_point begin = Clock::now();
    start.Record(stream);
    function();
    end.Record(stream);
    end.Wait();
    const double wall = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    times.push_back(stream.device.IsCpu() ? wall : end.MillisecondsSince(start));
  }
  return {Median(times), *std::min_element(times.begin(), times.end())};
}

double Median(std::vector<double> values) {
  KSA_CHECK(!values.empty(), "the median of nothing");
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2.0;
}

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown CPU";
}

std::string DeviceName(const Runtime& runtime) {
  return runtime.gpu().has_value() ? runtime.gpu()->name : CpuName();
}

std::string CommandLine() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string line((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  while (!line.empty() && line.back() == '\0') {
    line.pop_back();
  }
  const size_t program_end = std::min(line.find('\0'), line.size());
  const size_t slash = line.rfind('/', program_end);
  line.erase(0, slash == std::string::npos ? 0 : slash + 1);
  std::replace(line.begin(), line.end(), '\0', ' ');
  return line;
}

void Publish(const BenchReport& report, const std::optional<std::string>& json_path) {
  const std::string command = CommandLine();
  fmt::print("{}\n{}, {} thread{}\n\n{}",
             command,
             report.device,
             report.threads,
             report.threads == 1 ? "" : "s",
             report.table.Text());
  for (const Finding& finding : report.findings) {
    fmt::print("{}{}\n",
               &finding == report.findings.data() ? "\n" : "",
               fmt::format(fmt::runtime(finding.text), finding.value));
  }
  if (!json_path.has_value()) {
    return;
  }
  nlohmann::ordered_json json = {{"benchmark", report.benchmark},
                                 {"device", report.device},
                                 {"threads", report.threads},
                                 {"command", command},
                                 {"rows", nlohmann::ordered_json::parse(report.table.Json())}};
  json["findings"] = nlohmann::ordered_json::object();
  for (const Finding& finding : report.findings) {
    json["findings"][finding.key] = finding.value;
  }
  const std::string text = json.dump(2) + "\n";
  File file = File::Create(*json_path);
  file.Write(text.data(), static_cast<int64_t>(text.size()));
  file.Close();
}

}  // namespace ksa
