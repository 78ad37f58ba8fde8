#include "trainer/step/replicas.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include "data/files/streamed_hash.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"

namespace ksa {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 24;  // read from a GPU at once
constexpr size_t kMostRanksNamed = 8;

// One tensor of a parameter, as this rank holds it.
struct Held {
  const char* kind;  // "weights"
  const Parameter* parameter;
  TensorView values;  // [n]
  uint64_t digest = 0;
};

// A group of ranks, and what its ranks hold alike.
struct Sharing {
  Communicator* group;
  std::vector<const Held*> tensors;
};

std::vector<Held> TensorsHeld(const ParameterStore& store) {
  std::vector<Held> held;
  const auto add = [&](const char* kind, bool trained_only, const auto& values_of) {
    for (const Parameter& parameter : store.parameters()) {
      const int64_t size = parameter.shape.size();
      if (size > 0 && (parameter.spec.trained || !trained_only)) {
        held.push_back({kind, &parameter, values_of(parameter, FlatRange{parameter.offset, parameter.offset + size})});
      }
    }
  };
  add("weights", false, [](const Parameter& parameter, const FlatRange& range) {
    return parameter.value.Reshape({range.size()});
  });
  // With ZeRO each element of the state has one owner, and tensor ranks may cut theirs at other places.
  if (!store.is_sharded()) {
    if (store.has_separate_master()) {
      add("master weights", false, [&](const Parameter& /*parameter*/, const FlatRange& range) {
        return store.Master(range);
      });
    }
    add("exp_avg", true, [&](const Parameter& /*parameter*/, const FlatRange& range) {
      return store.State(store.exp_avg(), range);
    });
    add("exp_avg_sq", true, [&](const Parameter& /*parameter*/, const FlatRange& range) {
      return store.State(store.exp_avg_sq(), range);
    });
  }
  return held;
}

void HashOnHost(std::vector<Held>& tensors) {
  for (Held& tensor : tensors) {
    tensor.digest = XXH3_64bits(tensor.values.data, static_cast<size_t>(tensor.values.bytes()));
  }
}

void HashFromDevice(std::vector<Held>& tensors, const Stream& stream) {
  int64_t most = 0;
  for (const Held& tensor : tensors) {
    most = std::max(most, std::min(kPieceElements, tensor.values.size()) * SizeOf(tensor.values.dtype));
  }
  const PinnedMemory buffer(most, stream);
  for (Held& tensor : tensors) {
    StreamedHash hash;
    for (int64_t first = 0; first < tensor.values.size(); first += kPieceElements) {
      const int64_t count = std::min(kPieceElements, tensor.values.size() - first);
      const TensorView piece{buffer.data(), tensor.values.dtype, {}, {count}};
      CopyToHost(tensor.values.Rows(first, count), piece, stream);
      hash.Update(piece.data, static_cast<size_t>(piece.bytes()));
    }
    tensor.digest = hash.Digest();
  }
}

std::vector<Sharing> SharingsOf(const ParameterStore& store, const ProcessMesh& mesh, const std::vector<Held>& held) {
  std::vector<Sharing> sharings;
  const auto add = [&](Communicator& group, const auto& alike) {
    Sharing sharing = {&group, {}};
    for (const Held& tensor : held) {
      if (alike(tensor.parameter->spec)) {
        sharing.tensors.push_back(&tensor);
      }
    }
    sharings.push_back(std::move(sharing));
  };
  add(mesh.state_group(), [](const ParameterSpec& /*spec*/) { return true; });
  add(mesh.group(MeshAxis::kTensor),
      [](const ParameterSpec& spec) { return spec.tensor.kind != Placement::Kind::kSharded; });
  if (store.replicas() > 1) {
    add(mesh.replica_group(store.replicas()), [](const ParameterSpec& spec) { return spec.replicas > 1; });
  }
  return sharings;
}

// Whether some rank of the group, this one or another, has another digest: not necessarily this one sees it.
bool SeesDifference(const Sharing& sharing) {
  StreamedHash hash;
  for (const Held* tensor : sharing.tensors) {
    hash.Update(&tensor->digest, sizeof tensor->digest);
  }
  const auto digest = static_cast<int64_t>(hash.Digest() >> 1U);
  return sharing.group->Max(digest) != digest;
}

// Of a tensor, who holds which digest: those whose copy is not the commonest, or all where none is.
std::string Odd(const std::map<uint64_t, std::vector<int>>& holders) {
  size_t most = 0;
  size_t all = 0;
  for (const auto& [digest, ranks] : holders) {
    most = std::max(most, ranks.size());
    all += ranks.size();
  }
  const bool majority = 2 * most > all;
  std::vector<int> odd;
  for (const auto& [digest, ranks] : holders) {
    if (!majority || ranks.size() < most) {
      odd.insert(odd.end(), ranks.begin(), ranks.end());
    }
  }
  std::sort(odd.begin(), odd.end());
  const size_t shown = std::min(odd.size(), kMostRanksNamed);
  const std::string more = shown < odd.size() ? fmt::format(" and {} more", odd.size() - shown) : "";
  const std::string names =
      fmt::format("{}{}", fmt::join(odd.begin(), odd.begin() + static_cast<std::ptrdiff_t>(shown), ", "), more);
  return majority ? fmt::format("rank(s) {} have another copy than {} others", names, most)
                  : fmt::format("ranks {} have different copies", names);
}

// What differs in a group, the same text on each of its ranks; empty when nothing does.
std::string Difference(const Sharing& sharing, int world_rank) {
  std::string own(sizeof(int32_t) + sharing.tensors.size() * sizeof(uint64_t), '\0');
  const int32_t rank = world_rank;
  std::memcpy(own.data(), &rank, sizeof rank);
  for (size_t i = 0; i < sharing.tensors.size(); ++i) {
    std::memcpy(own.data() + sizeof rank + i * sizeof(uint64_t), &sharing.tensors[i]->digest, sizeof(uint64_t));
  }
  const std::vector<std::string> all = sharing.group->Gather(own);
  std::string first;
  size_t differ = 0;
  for (size_t i = 0; i < sharing.tensors.size(); ++i) {
    std::map<uint64_t, std::vector<int>> holders;
    for (const std::string& other : all) {
      int32_t who = 0;
      uint64_t digest = 0;
      std::memcpy(&who, other.data(), sizeof who);
      std::memcpy(&digest, other.data() + sizeof who + i * sizeof digest, sizeof digest);
      holders[digest].push_back(who);
    }
    if (holders.size() > 1 && differ++ == 0) {
      first =
          fmt::format("{} of {}: {}", sharing.tensors[i]->kind, sharing.tensors[i]->parameter->spec.name, Odd(holders));
    }
  }
  return differ > 1 ? fmt::format("{} (and {} tensors more differ)", first, differ - 1) : first;
}

}  // namespace

void CompareReplicas(const ParameterStore& store, const ProcessMesh& mesh, const Stream& stream) {
  Communicator& world = mesh.world();
  if (stream.dry || world.size() == 1) {
    return;
  }
  std::vector<Held> held = TensorsHeld(store);
  if (stream.device.IsCpu()) {
    HashOnHost(held);
  } else {
    HashFromDevice(held, stream);
  }
  const std::vector<Sharing> sharings = SharingsOf(store, mesh, held);
  bool differs = false;
  for (const Sharing& sharing : sharings) {
    differs = SeesDifference(sharing) || differs;
  }
  if (world.Max(differs ? 1 : 0) == 0) {
    return;
  }
  std::string found;
  for (const Sharing& sharing : sharings) {
    const std::string difference = Difference(sharing, world.rank());
    found = found.empty() ? difference : found;
  }
  for (const std::string& report : world.Gather(found)) {
    if (!report.empty()) {
      Fail(ExitCode::kDiverged,
           "ranks that hold a tensor alike no longer do: {}. Memory, a processor or a link of one of them changed it; "
           "no checkpoint of this state is kept. The table of ranks in log.txt names their hosts and devices: test "
           "these, then start again from the last checkpoint",
           report);
    }
  }
}

}  // namespace ksa
