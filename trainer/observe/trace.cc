#include "trainer/observe/trace.h"

#include <map>

#include <nlohmann/json.hpp>

#include "data/files/result_file.h"

namespace ksa {
namespace {

constexpr int kHostRow = 0;

nlohmann::json RowName(int row, const std::string& name) {
  return {{"name", "thread_name"}, {"ph", "M"}, {"pid", 0}, {"tid", row}, {"args", {{"name", name}}}};
}

nlohmann::json Slice(const char* name, int row, double begin, double end) {
  return {{"name", name}, {"ph", "X"}, {"pid", 0}, {"tid", row}, {"ts", begin}, {"dur", end - begin}};
}

}  // namespace

double ChromeTrace::Now() const {
  return std::chrono::duration<double, std::micro>(Clock::now() - start_).count();
}

void ChromeTrace::Begin(const char* op, const Stream& stream) {
  Span span;
  span.name = op;
  span.issued = Now();
  if (!stream.device.IsCpu() && !stream.dry) {
    span.stream = stream.handle;
    span.begin = std::make_unique<Event>();
    span.end = std::make_unique<Event>();
    span.begin->Record(stream);
  }
  open_.push_back(spans_.size());
  spans_.push_back(std::move(span));
}

void ChromeTrace::End(const Stream& stream) noexcept {
  Span& span = spans_[open_.back()];
  open_.pop_back();
  try {
    if (span.end != nullptr) {
      span.end->Record(stream);
    }
  } catch (const Error&) {  // the device has failed, which the operation itself reports
    span.begin.reset();
  }
  span.returned = Now();
}

void ChromeTrace::Write(const std::string& path) const {
  nlohmann::json events = nlohmann::json::array({RowName(kHostRow, "host")});
  std::map<const void*, int> rows;
  // Device clocks have no origin in common with the host's: the first operation starts where it was issued.
  const Span* origin = nullptr;
  for (const Span& span : spans_) {
    events.push_back(Slice(span.name, kHostRow, span.issued, span.returned));
    if (span.begin == nullptr) {
      continue;
    }
    span.end->Wait();
    origin = origin == nullptr ? &span : origin;
    const auto [row, added] = rows.try_emplace(span.stream, static_cast<int>(rows.size()) + 1);
    if (added) {
      events.push_back(RowName(row->second, fmt::format("device stream {}", row->second)));
    }
    const double begin = origin->issued + 1e3 * span.begin->MillisecondsSince(*origin->begin);
    events.push_back(Slice(span.name, row->second, begin, begin + 1e3 * span.end->MillisecondsSince(*span.begin)));
  }
  WriteResult(path, nlohmann::json{{"traceEvents", events}, {"displayTimeUnit", "ms"}}.dump(1) + "\n");
}

}  // namespace ksa
