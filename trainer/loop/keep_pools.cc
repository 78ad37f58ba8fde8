#include "trainer/loop/keep_pools.h"

#include <algorithm>
#include <string>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/config/load.h"
#include "trainer/run/run_folder.h"

namespace ksa {
namespace {

constexpr const char* kPool = "pool_samples";

bool Follows(const TrainSource& source) {
  return source.task.pool_follows;
}

// Rank 0: a number a source, 0 where nothing is known.
std::vector<int64_t> PoolsBefore(const Config& config) {
  std::vector<int64_t> pools(config.data.train.size());
  const std::string path = RunPaths(config.run.dir).Configuration();
  if (!Exists(path)) {
    return pools;
  }
  try {
    const std::vector<TrainSource> before = LoadConfig(path).config.data.train;
    for (size_t s = 0; s < std::min(before.size(), pools.size()); ++s) {
      TaskSpec task = config.data.train[s].task;
      if (Follows(config.data.train[s]) && before[s].task.Has(kPool)) {
        task.values[kPool] = before[s].task.values.at(kPool);
        pools[s] = task == before[s].task ? task.Integer(kPool, 0) : 0;
      }
    }
  } catch (const Error&) {  // damaged, or of another program: the start itself says so where it matters
  }
  return pools;
}

}  // namespace

void KeepPools(Config& config, Communicator& world) {
  std::vector<TrainSource>& sources = config.data.train;
  if (std::none_of(sources.begin(), sources.end(), Follows)) {
    return;
  }
  std::string rest = OnRankZero(world, [&] { return fmt::format("{}", fmt::join(PoolsBefore(config), " ")); });
  for (TrainSource& source : sources) {
    size_t read = 0;
    const int64_t pool = std::stoll(rest, &read);
    rest = rest.substr(std::min(rest.size(), read));
    if (pool > 0 && Follows(source)) {
      source.task.values[kPool] = {static_cast<double>(pool)};
    }
  }
}

}  // namespace ksa
