#include "trainer/evaluate/selection.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "trainer/observe/metric_series.h"

namespace ksa {
namespace {

// A value of the keys `over` in one family.
struct Candidate {
  std::string choice;
  bool open = false;  // a judged cell has not ended
  bool out = false;   // a judged cell has ended without a finite metric
  double sum = 0;
  int64_t cells = 0;

  [[nodiscard]] double Mean() const { return sum / static_cast<double>(cells); }
};

struct Family {
  std::string name;
  std::vector<Candidate> candidates;
};

template <typename T>
T& Named(std::vector<T>& items, const std::string& name, std::string T::*key) {
  const auto found = std::find_if(items.begin(), items.end(), [&](const T& item) { return item.*key == name; });
  if (found != items.end()) {
    return *found;
  }
  items.emplace_back();
  items.back().*key = name;
  return items.back();
}

void Judge(const CellScore& score, Candidate& candidate) {
  const bool done = score.code == static_cast<int>(ExitCode::kDone);
  candidate.open = candidate.open || (!done && !CellFailed(score.code));
  if (done && score.value && std::isfinite(*score.value)) {
    candidate.sum += *score.value;
    ++candidate.cells;
  } else if (done || CellFailed(score.code)) {
    candidate.out = true;
  }
}

// Null: none can be chosen.
const Candidate* BestOf(const Family& family, bool smallest) {
  const Candidate* best = nullptr;
  for (const Candidate& candidate : family.candidates) {
    if (candidate.out || candidate.cells == 0) {
      continue;
    }
    if (best == nullptr || (smallest ? candidate.Mean() < best->Mean() : candidate.Mean() > best->Mean())) {
      best = &candidate;
    }
  }
  return best;
}

CellRole RoleIn(const Family& family, const SweepCell& cell, bool smallest) {
  if (std::any_of(family.candidates.begin(), family.candidates.end(), [](const Candidate& one) { return one.open; })) {
    return cell.judged ? CellRole::kCandidate : CellRole::kWaiting;
  }
  const Candidate* best = BestOf(family, smallest);
  if (best == nullptr) {
    return CellRole::kNoChoice;
  }
  return best->choice == cell.choice ? CellRole::kKept : CellRole::kRejected;
}

}  // namespace

bool CellFailed(int code) {
  return code != kCellNotRun && code != static_cast<int>(ExitCode::kDone) &&
         code != static_cast<int>(ExitCode::kStopped) && code != static_cast<int>(ExitCode::kStoppedByPerson);
}

std::vector<CellRole> SelectCells(const Sweep& sweep, const std::vector<CellScore>& scores) {
  KSA_CHECK(scores.size() == sweep.cells.size(), "{} scores for {} cells", scores.size(), sweep.cells.size());
  if (!sweep.select) {
    return std::vector<CellRole>(scores.size(), CellRole::kPlain);
  }
  std::vector<Family> families;
  for (size_t i = 0; i < scores.size(); ++i) {
    const SweepCell& cell = sweep.cells[i];
    Candidate& candidate =
        Named(Named(families, cell.family, &Family::name).candidates, cell.choice, &Candidate::choice);
    if (cell.judged) {
      Judge(scores[i], candidate);
    }
  }
  std::vector<CellRole> roles;
  for (const SweepCell& cell : sweep.cells) {
    roles.push_back(RoleIn(Named(families, cell.family, &Family::name), cell, sweep.select->IsLoss()));
  }
  return roles;
}

CellScore ScoreOf(const Sweep& sweep, const SweepCell& cell, int code) {
  CellScore score{code, std::nullopt};
  const std::string path = cell.config.run.dir + "/metrics.jsonl";
  if (!sweep.select || code != static_cast<int>(ExitCode::kDone) || !Exists(path)) {
    return score;
  }
  const MetricSeries series = ReadMetricSeries(path);
  const std::string& by = sweep.select->by;
  const std::vector<std::string> names =
      by == SweepSelect::kLoss ? series.NamesOf(by) : std::vector<std::string>{sweep.select->Name()};
  double sum = 0;
  for (const std::string& name : names) {
    const auto last = series.Last(by.substr(0, by.find('/')) + "/" + name);
    if (!last) {
      return score;
    }
    sum += last->value;
  }
  if (!names.empty()) {
    score.value = sum / static_cast<double>(names.size());
  }
  return score;
}

std::vector<CellScore> ScoresOf(const Sweep& sweep, const std::vector<int>& codes) {
  std::vector<CellScore> scores;
  for (size_t i = 0; i < codes.size(); ++i) {
    scores.push_back(ScoreOf(sweep, sweep.cells[i], codes[i]));
  }
  return scores;
}

}  // namespace ksa
