// What a run will take, before it starts: parameters, operations, memory, traffic, time. Everything comes from
// imaginary runs (imaginary_run.h) of ranks of one mesh or of many.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/ksa/device_figures.h"
#include "trainer/config/config.h"
#include "trainer/loop/imaginary_run.h"
#include "trainer/observe/table.h"

namespace ksa {

// A run on one mesh, as its slowest and its fullest rank have it.
struct MeshPlan {
  MeshShape mesh;
  Recompute recompute = Recompute::kNone;
  int64_t micro_batches = 1;
  MemoryPlan memory;  // of the rank that takes most
  bool fits = true;   // into the device's memory
  StepCounts counts;  // of the slowest rank, an update
  // Of an update. None where the device's figures are not for the run's precision.
  std::optional<StepSeconds> seconds;
  std::optional<double> mfu;  // of the datasheet's peak of all ranks, 0..1

  [[nodiscard]] std::optional<double> Seconds() const {
    return seconds ? std::optional(seconds->Total()) : std::nullopt;
  }
};

struct RunPlan {
  std::string device;
  int ranks = 1;
  int64_t parameters = 0;
  double forward_flops_per_token = 0.0;  // useful, of the real mask
  double keys_per_query = 0.0;           // that a text query sees, mean over the layers
  int64_t tokens_per_update = 0;
  int64_t updates = 0;
  int64_t checkpoint_bytes = 0;
  std::string problem;           // why the ranks cannot form the configured mesh; else empty
  std::optional<MeshPlan> here;  // the configured mesh
  std::vector<MeshPlan> best;    // of the ranks, the fastest first; those that do not fit last
  std::optional<double> epochs;  // none: the data is not there

  // The mesh that the run is planned on: the configured one, else the best. Null: there is none.
  [[nodiscard]] const MeshPlan* Chosen() const { return here ? &*here : best.empty() ? nullptr : &best.front(); }

  [[nodiscard]] std::optional<double> Days() const;

  // Of a mesh whose time is known.
  [[nodiscard]] double TokensPerSecond(const MeshPlan& mesh) const;
};

// How many meshes are shown.
inline constexpr size_t kMeshesShown = 12;

// The best `most` meshes, one a row.
[[nodiscard]] Table MeshTable(const RunPlan& plan, size_t most);

[[nodiscard]] const char* NameOf(Recompute recompute);

struct PlanRequest {
  int ranks = 1;
  bool search = false;  // look for the best meshes of the ranks
};

// Fills in what a run on a GPU would, whatever this program was built for. Error(kConfig) for fp64.
void ResolveForGpu(Config& config);

// `config` has been read and has a precision; the rules that need the number of ranks are looked at here. Epochs are
// left open.
[[nodiscard]] RunPlan PlanRun(const Config& config, const KnownDevice& device, const PlanRequest& request);

// Of one mesh, which the configuration's rules allow.
[[nodiscard]] MeshPlan PlanMesh(const Config& config, const KnownDevice& device, int ranks, double forward_flops);

// The ranks of a mesh of which one is the slowest and one the fullest, as far as that is known without running all:
// data ranks are alike, and of the tensor ranks the last has the largest parts; among context ranks it is one at an end
// or in the middle.
[[nodiscard]] std::vector<int> RanksToRun(const MeshShape& mesh);

}  // namespace ksa
