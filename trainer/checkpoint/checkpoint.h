// Checkpoints: written whole or not at all, read on any layout. Format, write order and what survives which crash:
// docs/design/checkpoint.md.
//
// A run's checkpoints lie in <run>/checkpoints: step_00001000/ (manifest.json, rank_*.h5), step_*.tmp-<run_id>/ while
// one is written, and `latest`, a text file with the newest one's name for people and scripts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/files/paths.h"
#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "model/autograd/parameter.h"
#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/manifest.h"

namespace ksa {

class CheckedCheckpoints;
class TensorSource;

// "step_00001000".
[[nodiscard]] std::string CheckpointFolderName(int64_t step);

// Bytes of the tensors of a checkpoint of this store, all ranks together: weights, and two moments of what is trained.
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
  std::function<void(SaveStage)> on_stage;  // may be empty, as all that follow
  // A tokenizer's file that is copied into the checkpoint, under its own name (kTokenizerFiles). It is read at every
  // save: the run folder's copy, which stays, rather than the shards'.
  std::string tokenizer_file;
  // Rank 0: runs when all tensors are on disk and before the manifest makes them a checkpoint: for what must be on disk
  // before a checkpoint is, as the rows of metrics. What it throws fails the save on every rank.
  std::function<void()> before_commit;
  // Rank 0: gets what went wrong without harm to the checkpoint: `latest` or an old checkpoint that could not be
  // replaced or removed, and every checkpoint that pruning does not count because it is damaged. Empty: on stderr.
  std::function<void(const std::string&)> warn;
  // What this process knows to be good already, so that pruning need not read it again. Null: it reads everything.
  CheckedCheckpoints* checked = nullptr;
  int64_t keep_every = 0;  // checkpoints of steps that it divides stay for good; 0: none (PruneOptions)
};

// Error(kIo) when a checkpoint of `bytes` finds no room on the disk of `folder`, which need not exist yet. What killed
// saves of the run `run_id` left there counts as free: the next save removes it. Changes nothing.
void CheckRoomForCheckpoint(const std::string& folder, int64_t bytes, const std::string& run_id);

// Writes one checkpoint; every rank of `world` calls it, and each writes the elements store.owned(). Returns the
// path of the finished checkpoint. `stream` computes where the store lies. Afterwards old checkpoints are pruned
// (trainer/checkpoint/prune.h).
//
// Where it fails, on any rank, the partial checkpoint is removed, older ones are untouched, and every rank throws the
// same error: kIo (full disk), kCannotCreate when the folder cannot be made, kDiverged when a value is not finite (such
// weights are never saved), or what before_commit threw.
std::string SaveCheckpoint(const ParameterStore& store,
                           Communicator& world,
                           const CheckpointMeta& meta,
                           const SaveOptions& options,
                           const Stream& stream = {});

// --- reading

struct Checkpoint {
  std::string path;  // its folder
  Manifest manifest;
  std::optional<FileIdentity> folder;  // when the manifest was read
};

// Whether something else, or nothing, has the checkpoint's name by now: pruned, moved or replaced, which a trainer may
// do while others read. What is wrong with it then is not damage.
[[nodiscard]] bool HasGone(const Checkpoint& checkpoint);

// A checkpoint that was passed over, and why.
struct RefusedCheckpoint {
  std::string path;
  std::string reason;
  // kBadData: damaged, or not a whole checkpoint. kIo: it may be good, but cannot be read now (no permission, a failing
  // disk, a link into a disk that is not mounted).
  ExitCode code = ExitCode::kBadData;
};

struct FoundCheckpoint {
  bool found = false;
  Checkpoint checkpoint;                   // if found
  std::vector<RefusedCheckpoint> refused;  // newer ones that don't verify, newest first
};

// "checkpoint PATH is passed over: REASON": every reader says it the same way.
[[nodiscard]] std::string Describe(const RefusedCheckpoint& refused);

// Says it on stderr, as a warning.
void WarnOfRefused(const RefusedCheckpoint& refused);

// Throws, with every reason: kIo where one of them could not be read, as it may be good; else kBadData.
[[noreturn]] void FailNoneIsGood(const std::string& folder, const std::vector<RefusedCheckpoint>& refused);

// The newest checkpoint in a `checkpoints` folder all of whose hashes are right. Ranks share the hashing and all get
// the same answer. A folder that does not exist holds none; Error(kIo) when it cannot be listed. `checked`, if any,
// remembers what was found out.
[[nodiscard]] FoundCheckpoint FindNewestCheckpoint(const std::string& folder,
                                                   Communicator& world,
                                                   CheckedCheckpoints* checked = nullptr);

// Whether `path` is a checkpoint by itself: it has a manifest, or is named like one.
[[nodiscard]] bool IsCheckpoint(const std::string& path);

using OnRefused = std::function<void(const RefusedCheckpoint&)>;

// `path` is a checkpoint, a `checkpoints` folder or a run folder; in the latter two the newest that verifies is taken,
// and rank 0 passes those that were refused to `on_refused`. A checkpoint given by itself has its manifest checked, its
// hashes when they are read. Error(kMissingInput) when there is none; kBadData or kIo when none is good.
[[nodiscard]] Checkpoint OpenCheckpoint(const std::string& path,
                                        Communicator& world,
                                        const OnRefused& on_refused = WarnOfRefused);
// By this process alone.
[[nodiscard]] Checkpoint OpenCheckpoint(const std::string& path, const OnRefused& on_refused = WarnOfRefused);

// The checkpoints of a run in order of steps, unverified, as folders (or links) named step_*; `path` as in
// OpenCheckpoint.
[[nodiscard]] std::vector<std::string> ListCheckpoints(const std::string& path);

// What is wrong with a checkpoint.
struct Fault {
  ExitCode code = ExitCode::kBadData;  // kBadData: damage; kIo: it cannot be read now
  std::string text;                    // names the file, and the tensor
};

// Reads every byte of every file; memory stays bounded. Returns all faults; none: good.
[[nodiscard]] std::vector<Fault> VerifyCheckpoint(const Checkpoint& checkpoint);
// The same, each rank of `world` a share of the files; all get the same list.
[[nodiscard]] std::vector<Fault> VerifyCheckpoint(const Checkpoint& checkpoint, Communicator& world);

// The path of the tokenizer's copy in a checkpoint, whose hash is checked; none where the checkpoint has no copy.
// Error(kBadData), Error(kIo).
[[nodiscard]] std::optional<std::string> TokenizerOf(const Checkpoint& checkpoint);

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

// Error(kConfig) listing every name, shape and dtype that differs between a model, whose state has the type `state`,
// and the checkpoint; Error(kBadData) when files of the checkpoint are shorter than what they are said to hold. Takes
// no memory for tensors: call it before memory is taken for what a configuration or a manifest says.
void CheckSameModel(const std::vector<ParameterSpec>& specs,
                    DType state,
                    const Checkpoint& checkpoint,
                    LoadParts parts);

// Fills the store: of the weights this rank's tensor shards, whole over its other axes; of master weights and moments
// what it holds. Reads only pieces that hold some of it, each checked against its hash before it is used. Takes host
// memory for its share of one tensor at a time and for a chunk of a file. Error(kConfig) as CheckSameModel, before
// anything is changed; Error(kBadData) for missing or corrupt pieces, kIo for what cannot be read, kMissingInput when
// the checkpoint has gone meanwhile.
LoadCount LoadInto(ParameterStore& store, const Checkpoint& checkpoint, LoadParts parts, const Stream& stream);

// Fills the weights from any source that has every parameter under its name and in its shape (trainer/interop/adapt.h
// makes one), each rank its own boxes. Errors of the source.
void LoadWeights(ParameterStore& store, TensorSource& source, const Stream& stream);

// One tensor, whole, in host memory [entry.shape's size]. Errors as LoadInto; kBadData before memory is taken when its
// files are too short to hold it.
[[nodiscard]] Tensor ReadTensor(const Checkpoint& checkpoint, const TensorEntry& entry, Allocator& allocator);

}  // namespace ksa
