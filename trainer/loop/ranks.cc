#include "trainer/loop/ranks.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <set>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "data/files/streamed_hash.h"
#include "kernels/core/error.h"
#include "trainer/config/load.h"

namespace ksa {
namespace {

constexpr size_t kMostDifferences = 4;   // of a rank that are named
constexpr size_t kMostRanksNamed = 8;    // in one report
constexpr size_t kMostRanksInRows = 16;  // of the table

constexpr char kEnd = '\0';  // of a field in what ranks send each other

std::string Packed(const Facts& facts) {
  std::string bytes;
  for (const auto& [name, value] : facts) {
    bytes.append(name).push_back(kEnd);
    bytes.append(value).push_back(kEnd);
  }
  return bytes;
}

std::vector<std::string> Fields(const std::string& bytes) {
  std::vector<std::string> fields;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = bytes.find(kEnd, begin);
    KSA_CHECK(end != std::string::npos, "a rank sent {} bytes that do not end", bytes.size());
    fields.push_back(bytes.substr(begin, end - begin));
    begin = end + 1;
  }
  return fields;
}

Facts Unpacked(const std::string& bytes) {
  const std::vector<std::string> fields = Fields(bytes);
  Facts facts;
  for (size_t i = 0; i + 1 < fields.size(); i += 2) {
    facts.emplace_back(fields[i], fields[i + 1]);
  }
  return facts;
}

// What this rank has that rank 0 has not, or has otherwise; empty if there is nothing.
std::string Differences(const Facts& own, const Facts& leader) {
  const std::map<std::string, std::string> expected(leader.begin(), leader.end());
  std::map<std::string, std::string> got(own.begin(), own.end());
  std::vector<std::string> found;
  for (const auto& [name, value] : own) {
    const auto other = expected.find(name);
    if (other == expected.end() || other->second != value) {
      found.push_back(fmt::format(
          "{} is {}, {} on rank 0", name, value, other == expected.end() ? "not there" : other->second.c_str()));
    }
  }
  for (const auto& [name, value] : leader) {
    if (got.count(name) == 0) {
      found.push_back(fmt::format("{} is not there, {} on rank 0", name, value));
    }
  }
  const size_t shown = std::min(found.size(), kMostDifferences);
  std::string text =
      fmt::format("{}", fmt::join(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(shown), "; "));
  if (shown < found.size()) {
    text += fmt::format("; and {} more", found.size() - shown);
  }
  return text;
}

// The program's own bytes: two builds may add in different orders, which would drive replicas of weights apart.
std::string ProgramDigest() {
  std::ifstream program("/proc/self/exe", std::ios::binary);
  if (!program) {
    return "unknown";
  }
  StreamedHash hash;
  std::vector<char> block(size_t{1} << 20);
  while (program.read(block.data(), static_cast<std::streamsize>(block.size())) || program.gcount() > 0) {
    hash.Update(block.data(), static_cast<size_t>(program.gcount()));
  }
  return fmt::format("build {:016x}", hash.Digest());
}

// "0-3, 6"
std::string Ranges(const std::set<int64_t>& numbers) {
  std::vector<std::string> ranges;
  for (auto it = numbers.begin(); it != numbers.end();) {
    const int64_t first = *it;
    int64_t last = first;
    while (++it != numbers.end() && *it == last + 1) {
      ++last;
    }
    ranges.push_back(first == last ? std::to_string(first) : fmt::format("{}-{}", first, last));
  }
  return fmt::format("{}", fmt::join(ranges, ", "));
}

// Coordinates data, context, tensor of a rank (process_mesh.h).
std::array<int64_t, 3> Coordinates(const MeshShape& mesh, int64_t rank) {
  return {rank / (mesh.tensor * mesh.context), rank / mesh.tensor % mesh.context, rank % mesh.tensor};
}

// Some ranks of the table in one line.
std::string TableLine(const std::set<int64_t>& ranks,
                      const std::string& host,
                      const std::set<std::string>& devices,
                      const MeshShape& mesh) {
  std::array<std::set<int64_t>, 3> coordinates;
  for (const int64_t rank : ranks) {
    const std::array<int64_t, 3> own = Coordinates(mesh, rank);
    for (size_t axis = 0; axis < own.size(); ++axis) {
      coordinates[axis].insert(own[axis]);
    }
  }
  return fmt::format("{} {} on {}: {}; data {}, context {}, tensor {}",
                     ranks.size() == 1 ? "rank" : "ranks",
                     Ranges(ranks),
                     host,
                     fmt::join(devices, ", "),
                     Ranges(coordinates[0]),
                     Ranges(coordinates[1]),
                     Ranges(coordinates[2]));
}

}  // namespace

std::vector<RankPlace> GatherPlaces(Communicator& world, const RankPlace& own) {
  std::string bytes;
  for (const std::string& field :
       {own.host, std::to_string(own.local_rank), std::to_string(own.local_size), std::to_string(own.gpus)}) {
    bytes.append(field).push_back(kEnd);
  }
  std::vector<RankPlace> places;
  for (const std::string& place : world.Gather(bytes)) {
    const std::vector<std::string> fields = Fields(place);
    KSA_CHECK(fields.size() == 4, "a rank's place has {} fields", fields.size());
    places.push_back({fields[0], std::stoi(fields[1]), std::stoi(fields[2]), std::stoi(fields[3])});
  }
  return places;
}

void ResolveDeviceOfRanks(Config& config, const std::vector<RankPlace>& places) {
  const auto lacking =
      std::find_if(places.begin(), places.end(), [](const RankPlace& place) { return place.gpus < place.local_size; });
  const bool some_gpu =
      std::any_of(places.begin(), places.end(), [](const RankPlace& place) { return place.gpus > 0; });
  const bool wants_gpu = config.run.device == DeviceChoice::kCuda ||
                         (config.run.device == DeviceChoice::kAuto && some_gpu);  // not hours on CPUs beside GPUs
  if (lacking != places.end() && places.size() > 1 && wants_gpu) {
    Fail(ExitCode::kConfig,
         "run.device: {} needs a GPU for every rank, but host {} has {} ranks and {} GPU(s); start fewer ranks there, "
         "let every rank see all GPUs of its host (CUDA_VISIBLE_DEVICES, nvidia-smi), or say run.device: cpu",
         config.run.device == DeviceChoice::kCuda ? "cuda" : "auto",
         lacking->host,
         lacking->local_size,
         lacking->gpus);
  }
  ResolveDevice(config, lacking == places.end());
}

Facts StartFacts(const Config& config) {
  Facts facts = FlattenConfig(config);
  facts.emplace_back("the program", ProgramDigest());
  return facts;
}

void CheckSameOnAllRanks(Communicator& world, const std::string& host, const Facts& facts) {
  std::string leader = Packed(facts);
  world.Broadcast(leader, 0);
  const std::string own = Differences(facts, Unpacked(leader));
  const std::vector<std::string> reports =
      world.Gather(own.empty() ? "" : fmt::format("rank {} on host {}: {}", world.rank(), host, own));
  std::vector<std::string> named;
  for (const std::string& report : reports) {
    if (!report.empty()) {
      named.push_back(report);
    }
  }
  if (named.empty()) {
    return;
  }
  const size_t more = named.size() - std::min(named.size(), kMostRanksNamed);
  named.resize(named.size() - more);
  if (more > 0) {
    named.push_back(fmt::format("and {} ranks more", more));
  }
  Fail(ExitCode::kConfig,
       "every rank needs the same configuration, program and shards; make these like rank 0's:\n{}",
       fmt::join(named, "\n"));
}

std::vector<std::string> RankTable(const std::vector<std::string>& hosts,
                                   const std::vector<std::string>& devices,
                                   const MeshShape& mesh) {
  std::vector<std::string> lines;
  if (hosts.size() <= kMostRanksInRows) {
    for (size_t rank = 0; rank < hosts.size(); ++rank) {
      lines.push_back(TableLine({static_cast<int64_t>(rank)}, hosts[rank], {devices[rank]}, mesh));
    }
    return lines;
  }
  std::vector<std::string> order;
  std::map<std::string, std::set<int64_t>> ranks;
  std::map<std::string, std::set<std::string>> kinds;
  for (size_t rank = 0; rank < hosts.size(); ++rank) {
    if (ranks[hosts[rank]].empty()) {
      order.push_back(hosts[rank]);
    }
    ranks[hosts[rank]].insert(static_cast<int64_t>(rank));
    kinds[hosts[rank]].insert(devices[rank]);
  }
  for (const std::string& host : order) {
    lines.push_back(TableLine(ranks[host], host, kinds[host], mesh));
  }
  return lines;
}

}  // namespace ksa
