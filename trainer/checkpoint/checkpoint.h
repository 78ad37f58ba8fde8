// Checkpoints: written whole or not at all, read on any layout. Format, write order and what survives which crash:
// docs/design/checkpoint.md.
//
// A run's checkpoints lie in <run>/checkpoints: step_00001000/ (manifest.json, rank_*.h5), step_*.tmp-<run_id>/ while
// one is written, and `latest`, a text file with the newest one's name for people and scripts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/core/device.h"
#include "model/autograd/parameter.h"
#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/manifest.h"

namespace ksa {

// "step_00001000".
[[nodiscard]] std::string CheckpointFolderName(int64_t step);

// Bytes of the tensors of a checkpoint of this store, all ranks together: weights and two moments.
[[nodiscard]] int64_t CheckpointBytes(const ParameterStore& store);

// --- writing

// Called by the writer when a stage is done, so that tests can interrupt it there.
enum class SaveStage : int {
  kFolderMade,       // on rank 0
  kTensorsWritten,   // on every rank: its file is written, flushed and verified
  kManifestWritten,  // on rank 0, as all that follow
  kRenamed,
  kLatestReplaced,
  kPruned,
};

struct SaveOptions {
  std::string folder;  // the run's `checkpoints`; made when missing
  int32_t keep_last = 2;
  std::function<void(SaveStage)> on_stage;  // may be empty
};

// Writes one checkpoint; every rank of `world` calls it, and each writes the elements store.owned(). Returns the
// path of the finished checkpoint. `stream` computes where the store lies. Afterwards all but the `keep_last` newest of
// this run, this one and later steps apart, are removed. Where writing fails on any rank (full disk), the partial
// checkpoint is removed and every rank throws the same Error(kIo), or kCannotCreate when the folder cannot be made;
// older checkpoints are untouched.
std::string SaveCheckpoint(const ParameterStore& store,
                           Communicator& world,
                           const CheckpointMeta& meta,
                           const SaveOptions& options,
                           const Stream& stream = {});

// --- reading

struct Checkpoint {
  std::string path;  // its folder
  Manifest manifest;
};

// A checkpoint that was passed over, and why.
struct RefusedCheckpoint {
  std::string path;
  std::string reason;
};

struct FoundCheckpoint {
  bool found = false;
  Checkpoint checkpoint;                   // if found
  std::vector<RefusedCheckpoint> refused;  // newer ones that don't verify, newest first
};

// The newest checkpoint in a `checkpoints` folder all of whose hashes are right. Ranks share the hashing and all get
// the same answer. A folder that does not exist holds none.
[[nodiscard]] FoundCheckpoint FindNewestCheckpoint(const std::string& folder, Communicator& world);

// Whether `path` is a checkpoint by itself: it has a manifest, or is named like one.
[[nodiscard]] bool IsCheckpoint(const std::string& path);

// `path` is a checkpoint, a `checkpoints` folder or a run folder; in the latter two the newest that verifies is taken.
// A checkpoint given by itself has its manifest checked, its hashes when they are read. Error(kMissingInput) when there
// is none, Error(kBadData) when none is good.
[[nodiscard]] Checkpoint OpenCheckpoint(const std::string& path, Communicator& world);
[[nodiscard]] Checkpoint OpenCheckpoint(const std::string& path);  // by this process alone

// The checkpoints of a run in order of steps, unverified, as folders named step_*; `path` as in OpenCheckpoint.
[[nodiscard]] std::vector<std::string> ListCheckpoints(const std::string& path);

// Reads every byte of every file; memory stays bounded. Returns all faults, each naming file and tensor; empty: good.
[[nodiscard]] std::vector<std::string> VerifyCheckpoint(const Checkpoint& checkpoint);
// The same, each rank of `world` a share of the files; all get the same list.
[[nodiscard]] std::vector<std::string> VerifyCheckpoint(const Checkpoint& checkpoint, Communicator& world);

enum class LoadParts : int {
  kWeights,            // for eval, generate and checkpoint.load: weights and, in bf16, masters; moments untouched
  kWeightsAndMoments,  // to resume
};

// What was read, each piece and file once.
struct LoadCount {
  int64_t files = 0;
  int64_t pieces = 0;
  int64_t bytes = 0;
};

// Fills the store: of the weights this rank's tensor shards, whole over its other axes; of master weights and moments
// what it holds. Reads only pieces that hold some of it, each checked against its hash before it is used. Takes host
// memory for its share of one tensor at a time and for a chunk of a file. Error(kConfig) listing every name, shape and
// dtype that differs between the model and the checkpoint, before anything is changed; Error(kBadData) for missing or
// corrupt pieces.
LoadCount LoadInto(ParameterStore& store, const Checkpoint& checkpoint, LoadParts parts, const Stream& stream);

// One tensor, whole, as the dtype of its entry: `out` has entry.size() elements. Error(kBadData).
void ReadTensor(const Checkpoint& checkpoint, const TensorEntry& entry, const TensorView& out);

}  // namespace ksa
