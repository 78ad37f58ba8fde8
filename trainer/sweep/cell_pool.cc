#include "trainer/sweep/cell_pool.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <thread>
#include <utility>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

constexpr int kDone = static_cast<int>(ExitCode::kDone);
constexpr auto kPause = std::chrono::milliseconds(20);
constexpr auto kBetweenPictures = std::chrono::seconds(1);

int StopCode(StopCause cause) {
  return static_cast<int>(cause == StopCause::kPerson ? ExitCode::kStoppedByPerson : ExitCode::kStopped);
}

std::string DescribeEnd(int code) {
  if (code == kDone) {
    return "done";
  }
  if (IsStopCode(code)) {
    return "stopped";
  }
  return code > 128 ? fmt::format("killed by signal {}", code - 128) : fmt::format("failed ({})", code);
}

}  // namespace

bool IsStopCode(int code) {
  return code == static_cast<int>(ExitCode::kStopped) || code == static_cast<int>(ExitCode::kStoppedByPerson);
}

CellPool::CellPool(const Sweep& sweep, std::vector<int> codes, CellPoolOptions options)
    : sweep_(sweep),
      options_(std::move(options)),
      scores_(ScoresOf(sweep, codes)),
      roles_(SelectCells(sweep, scores_)),
      started_(codes.size(), 0),
      jobs_(static_cast<size_t>(options_.jobs)),
      start_(Clock::now()) {}

std::string CellPool::TitleOf(size_t cell) const {
  return fmt::format("cell {}/{}: {}", cell + 1, sweep_.cells.size(), sweep_.cells[cell].label);
}

bool CellPool::AnyRuns() const {
  return std::any_of(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.child != nullptr; });
}

std::optional<size_t> CellPool::NextCell() const {
  for (size_t i = 0; i < scores_.size(); ++i) {
    if (scores_[i].code == kCellNotRun && started_[i] == 0 && MayRun(roles_[i])) {
      return i;
    }
  }
  return std::nullopt;
}

// Of cells that wait for a choice those of one value will run.
SweepCounts CellPool::Counts() const {
  SweepCounts counts;
  std::map<std::string, std::map<std::string, int64_t>> waiting;  // by family and choice
  for (size_t i = 0; i < scores_.size(); ++i) {
    const int code = scores_[i].code;
    counts.done += code == kDone ? 1 : 0;
    counts.failed += CellFailed(code) ? 1 : 0;
    if (code != kCellNotRun || started_[i] != 0) {
      continue;
    }
    counts.left += MayRun(roles_[i]) ? 1 : 0;
    counts.rejected += roles_[i] == CellRole::kRejected || roles_[i] == CellRole::kNoChoice ? 1 : 0;
    if (roles_[i] == CellRole::kWaiting) {
      ++waiting[sweep_.cells[i].family][sweep_.cells[i].choice];
    }
  }
  for (const auto& [family, choices] : waiting) {
    counts.left += choices.begin()->second;
  }
  if (ended_ > 0) {
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    counts.seconds_left = seconds / static_cast<double>(ended_) * static_cast<double>(counts.left);
  }
  return counts;
}

void CellPool::Start(int job, size_t cell) {
  Job& at = jobs_[static_cast<size_t>(job)];
  const SweepCounts counts = Counts();
  std::string title = TitleOf(cell);
  if (options_.apart) {
    const std::string gpu = options_.gpu ? options_.gpu(job) : "";
    title += gpu.empty() ? ": started" : fmt::format(": started on GPU {}", gpu);
  } else if (ended_ > 0) {
    title += fmt::format(" ({} cells left, about {})", counts.left, FormatDuration(counts.seconds_left));
  }
  options_.say(title);
  started_[cell] = 1;
  at.cell = cell;
  at.start = Clock::now();
  at.child = std::make_unique<ChildProcess>(options_.command(cell, job));
}

void CellPool::StartFree() {
  for (int job = 0; job < options_.jobs && !stopping_; ++job) {
    if (jobs_[static_cast<size_t>(job)].child != nullptr) {
      continue;
    }
    const std::optional<size_t> next = NextCell();
    if (!next) {
      return;
    }
    Start(job, *next);
  }
}

void CellPool::AskAllToStop() {
  stopping_ = true;
  for (Job& job : jobs_) {
    if (job.child != nullptr) {
      job.child->AskToStop();
    }
  }
}

void CellPool::End(Job& job, int code) {
  job.child.reset();
  ++ended_;
  scores_[job.cell] = ScoreOf(sweep_, sweep_.cells[job.cell], code);
  roles_ = SelectCells(sweep_, scores_);
  if (options_.apart) {
    const double seconds = std::chrono::duration<double>(Clock::now() - job.start).count();
    options_.say(fmt::format(
        "{}: {} after {} ({})", TitleOf(job.cell), DescribeEnd(code), FormatDuration(seconds), FormatCounts(Counts())));
  }
}

void CellPool::TakeEnded(const StopSignal& stop) {
  for (Job& job : jobs_) {
    std::optional<int> code = job.child == nullptr ? std::nullopt : job.child->Ended();
    if (!code) {
      continue;
    }
    if (stop.Requested() && *code != kDone) {
      code = StopCode(stop.Cause());  // also of a child that could not handle the signal yet
    } else if (stopping_ && *code == 128 + SIGUSR1) {
      code = static_cast<int>(ExitCode::kStopped);  // the same, where another cell's stop ends all
    }
    End(job, *code);
    if (IsStopCode(*code)) {
      AskAllToStop();
    }
  }
}

void CellPool::Draw() {
  const Clock::time_point now = Clock::now();
  if (!options_.draw || now - drawn_ < kBetweenPictures) {
    return;
  }
  drawn_ = now;
  std::vector<RunningCell> running;
  for (size_t j = 0; j < jobs_.size(); ++j) {
    if (jobs_[j].child != nullptr) {
      const auto job = static_cast<int>(j);
      running.push_back({jobs_[j].cell,
                         job,
                         options_.gpu ? options_.gpu(job) : "",
                         std::chrono::duration<double>(now - jobs_[j].start).count()});
    }
  }
  options_.draw(running, Counts());
}

std::vector<int> CellPool::Run(const StopSignal& stop) {
  const WaitableChildren waitable;
  for (size_t i = 0; i < scores_.size(); ++i) {
    if (scores_[i].code == kDone) {
      options_.say(TitleOf(i) + ": already done");
    }
  }
  while (true) {
    if (stop.Requested()) {
      AskAllToStop();
    }
    TakeEnded(stop);
    StartFree();
    if (!AnyRuns()) {
      break;
    }
    Draw();
    std::this_thread::sleep_for(kPause);
  }
  jobs_.clear();
  std::vector<int> codes;
  for (const CellScore& score : scores_) {
    codes.push_back(score.code);
  }
  return codes;
}

}  // namespace ksa
