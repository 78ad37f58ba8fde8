#include "trainer/run/rank_states.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

namespace ksa {
namespace {

constexpr size_t kMostNamed = 8;

std::string Named(std::vector<std::string> ranks) {
  const size_t more = ranks.size() - std::min(ranks.size(), kMostNamed);
  ranks.resize(ranks.size() - more);
  return fmt::format("{}{}", fmt::join(ranks, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace

// What the thread does; each call may hang.
struct RankStates::Files {
  std::string folder;
  int rank;
  std::vector<std::string> hosts;

  [[nodiscard]] std::string PathOf(int other) const { return fmt::format("{}/rank_{:05}.state", folder, other); }

  void Tell(const std::string& state) const;
  void Withdraw() const;
  [[nodiscard]] std::string Others(const std::string& own) const;
};

void RankStates::Files::Tell(const std::string& state) const {
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  const std::string path = PathOf(rank);
  std::ofstream(path + ".tmp") << state << '\n';
  std::filesystem::rename(path + ".tmp", path, ignored);
}

void RankStates::Files::Withdraw() const {
  std::error_code ignored;
  std::filesystem::remove(PathOf(rank), ignored);
  std::filesystem::remove(folder, ignored);  // if it is empty
}

std::string RankStates::Files::Others(const std::string& own) const {
  std::vector<std::string> same;
  std::vector<std::string> silent;
  std::vector<std::string> elsewhere;
  for (int other = 0; other < static_cast<int>(hosts.size()); ++other) {
    if (other == rank) {
      continue;
    }
    const std::string name = fmt::format("{} on {}", other, hosts[static_cast<size_t>(other)]);
    std::string state;
    std::ifstream file(PathOf(other));
    if (!std::getline(file, state)) {
      silent.push_back(name);
    } else if (state == own) {
      same.push_back(name);
    } else {
      elsewhere.push_back(fmt::format("rank {} is at {}", name, state));
    }
  }
  std::vector<std::string> parts;
  if (!silent.empty()) {
    parts.push_back(fmt::format("nothing is heard of rank(s) {}: stopped, lost or still at work", Named(silent)));
  }
  if (!elsewhere.empty()) {
    parts.push_back(Named(elsewhere));
  }
  if (!same.empty()) {
    parts.push_back(fmt::format("rank(s) {} wait at the same place", Named(same)));
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

RankStates::RankStates(std::string folder, int rank, std::vector<std::string> hosts)
    : files_(std::make_shared<const Files>(Files{std::move(folder), rank, std::move(hosts)})),
      thread_(std::make_unique<SideThread>()) {
  Withdraw();  // what an attempt before this one may have left
}

RankStates::~RankStates() {
  constexpr std::chrono::milliseconds kLimit(2000);
  Withdraw();
  static_cast<void>(Finish(kLimit));
}

void RankStates::Tell(const std::string& state) {
  thread_->Add([files = files_, state] { files->Tell(state); });
}

void RankStates::Withdraw() {
  thread_->Add([files = files_] { files->Withdraw(); });
}

std::string RankStates::Others(const std::string& own, std::chrono::milliseconds limit) const {
  const auto answer = std::make_shared<std::string>();
  thread_->Add([files = files_, answer, own] { *answer = files->Others(own); });
  if (!Finish(limit)) {  // then the answer is still the thread's
    return fmt::format("what other ranks say cannot be read: {} does not answer", files_->folder);
  }
  return *answer;
}

}  // namespace ksa
