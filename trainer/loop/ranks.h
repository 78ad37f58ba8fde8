// What the ranks of a run find out about each other before they start: where they are, and that all were given the
// same.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/mesh/process_mesh.h"
#include "trainer/config/config.h"

namespace ksa {

// Where a rank runs.
struct RankPlace {
  std::string host;
  int local_rank = 0;  // among the ranks of its host; the number of its GPU
  int local_size = 1;  // ranks of its host
  int gpus = 0;        // that this rank sees
};

// Of all ranks, on all ranks.
[[nodiscard]] std::vector<RankPlace> GatherPlaces(Communicator& world, const RankPlace& own);

// ResolveDevice for all ranks: `auto` takes GPUs where every rank of every host has one of its own. Error(kConfig) when
// cuda is asked for and a host has more ranks than GPUs.
void ResolveDeviceOfRanks(Config& config, const std::vector<RankPlace>& places);

// Names and values.
using Facts = std::vector<std::pair<std::string, std::string>>;

// What every rank must have been given alike: the configuration, key by key, and the program itself.
[[nodiscard]] Facts StartFacts(const Config& config);

// Error(kConfig), the same on every rank, where a fact differs from rank 0's; names hosts, ranks and both values.
void CheckSameOnAllRanks(Communicator& world, const std::string& host, const Facts& facts);

// Where ranks are and what they hold: a line a rank, or a line a host when they are many. `devices`: of every rank, as
// "cpu" or "GPU 0 NVIDIA H200".
[[nodiscard]] std::vector<std::string> RankTable(const std::vector<std::string>& hosts,
                                                 const std::vector<std::string>& devices,
                                                 const MeshShape& mesh);

}  // namespace ksa
