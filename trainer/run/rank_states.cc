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

RankStates::RankStates(std::string folder, int rank, std::vector<std::string> hosts)
    : folder_(std::move(folder)), rank_(rank), hosts_(std::move(hosts)) {
  Withdraw();  // what an attempt before this one may have left
}

RankStates::~RankStates() {
  Withdraw();
}

std::string RankStates::PathOf(int rank) const {
  return fmt::format("{}/rank_{:05}.state", folder_, rank);
}

void RankStates::Tell(const std::string& state) {
  std::error_code ignored;
  std::filesystem::create_directories(folder_, ignored);
  const std::string path = PathOf(rank_);
  std::ofstream(path + ".tmp") << state << '\n';
  std::filesystem::rename(path + ".tmp", path, ignored);
}

void RankStates::Withdraw() {
  std::error_code ignored;
  std::filesystem::remove(PathOf(rank_), ignored);
  std::filesystem::remove(folder_, ignored);  // if it is empty
}

std::string RankStates::Others(const std::string& own) const {
  std::vector<std::string> same;
  std::vector<std::string> silent;
  std::vector<std::string> elsewhere;
  for (int rank = 0; rank < static_cast<int>(hosts_.size()); ++rank) {
    if (rank == rank_) {
      continue;
    }
    const std::string name = fmt::format("{} on {}", rank, hosts_[static_cast<size_t>(rank)]);
    std::string state;
    std::ifstream file(PathOf(rank));
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

}  // namespace ksa
