#include "trainer/config/problems.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include <fmt/core.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr size_t kLongestQuote = 60;

// Levenshtein's distance with swaps of neighbours counted as one edit.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      const size_t replace = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

int Problems::AddFile(const std::string& name) {
  sources_.push_back({name, false});
  return static_cast<int>(sources_.size()) - 1;
}

int Problems::AddSet(const std::string& assignment) {
  sources_.push_back({"--set " + Quoted(assignment), true});
  return static_cast<int>(sources_.size()) - 1;
}

void Problems::Add(const Place& place, const std::string& path, const std::string& message) {
  problems_.push_back({place, path, message});
}

std::string Problems::Origin(const Place& place) const {
  const Source& source = sources_[static_cast<size_t>(place.source)];
  return source.is_set ? "--set" : fmt::format("{}:{}", source.name, place.line);
}

std::string Problems::Report() const {
  std::vector<Problem> sorted = problems_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.place.source, a.place.line, a.place.column) <
           std::tie(b.place.source, b.place.line, b.place.column);
  });
  std::string report;
  for (const Problem& problem : sorted) {
    const Source& source = sources_[static_cast<size_t>(problem.place.source)];
    const std::string where =
        source.is_set ? source.name : fmt::format("{}:{}:{}", source.name, problem.place.line, problem.place.column);
    report += fmt::format("{}{}: {}: {}", report.empty() ? "" : "\n", where, problem.path, problem.message);
  }
  return report;
}

void Problems::ThrowIfAny() const {
  if (!empty()) {
    throw Error(ExitCode::kConfig, Report());
  }
}

std::string Quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, kLongestQuote)) {
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    out += control ? fmt::format("\\x{:02x}", static_cast<unsigned char>(c)) : std::string(1, c);
  }
  return out + (text.size() > kLongestQuote ? "...'" : "'");
}

std::string Joined(const std::vector<std::string>& items) {
  return std::accumulate(items.begin(), items.end(), std::string(), [](const std::string& a, const std::string& b) {
    return a.empty() ? b : a + ", " + b;
  });
}

std::string NearestName(const std::string& text, const std::vector<std::string>& candidates) {
  std::string nearest;
  size_t fewest = std::max<size_t>(1, text.size() / 3) + 1;  // edits that are too many
  for (const std::string& candidate : candidates) {
    const bool starts_alike =
        text.size() >= 4 && candidate.size() >= 4 && (candidate.starts_with(text) || text.starts_with(candidate));
    const bool too_unlike = std::max(text.size(), candidate.size()) - std::min(text.size(), candidate.size()) >= fewest;
    const size_t edits = starts_alike ? 1 : too_unlike ? fewest : EditDistance(text, candidate);
    if (edits < fewest) {
      nearest = candidate;
      fewest = edits;
    }
  }
  return nearest;
}

}  // namespace ksa
