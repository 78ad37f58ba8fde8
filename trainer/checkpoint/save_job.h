// One checkpoint in the making, on one rank: its steps, which whoever makes it puts in order and agrees upon with the
// other ranks: SaveCheckpoint at once, AsyncSaver on a thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"
#include "model/autograd/parameter.h"
#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/checked.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace ksa {

struct PieceDataset;

enum class StateKind : int { kWeights, kExpAvg, kExpAvgSq };

// Elements of the state, which lie in one of store.owned(): where they are read from.
using StateRows = std::function<TensorView(StateKind kind, const FlatRange& range)>;

// From the store itself, which must outlive the function.
[[nodiscard]] StateRows RowsOfStore(const ParameterStore& store);

// Steps in order: Prepare on rank 0, Write on every rank, Finish with what all wrote. Where one fails on any rank, rank
// 0 calls RemovePartial. None makes a call of MPI but through the communicator that it is given.
class SaveJob {
 public:
  // `store` must outlive it; of `world` only sizes are asked. `stream` computes where `rows` lie.
  SaveJob(const ParameterStore& store,
          const Communicator& world,
          CheckpointMeta meta,
          SaveOptions options,
          StateRows rows,
          const Stream& stream);
  SaveJob(const SaveJob&) = delete;
  SaveJob& operator=(const SaveJob&) = delete;

  // Rank 0: the folder, room in it, the tokenizer. Error(kCannotCreate), kIo.
  void Prepare();

  // Every rank, once the folder is there: its file. Returns its pieces for Finish. Error(kIo), kDiverged.
  [[nodiscard]] std::string Write() const;

  // `lists`: what Write returned, of all ranks in order. Every rank of `world` calls it, or rank 0 alone with a world
  // of its own. From the manifest to pruning; returns the checkpoint's path. Error(kIo), and what before_commit throws.
  std::string Finish(const std::vector<std::string>& lists, Communicator& world);

  // Best effort: what cannot be removed now is removed by the next save of this run. Once the checkpoint is in place,
  // its temporary name holds the one that it replaced, which stays until the new one is durable.
  void RemovePartial() const;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void Report(SaveStage stage) const;
  void Warn(const std::string& text) const;
  [[nodiscard]] std::string Begin();
  [[nodiscard]] std::optional<std::string> ReadTokenizer() const;
  [[nodiscard]] bool MayReplace(Communicator& world);
  [[nodiscard]] FlatRange ShareOf(const Parameter& parameter) const;
  [[nodiscard]] std::vector<TensorEntry> PlanTensors(std::vector<PieceDataset>& datasets) const;
  [[nodiscard]] std::string FileName() const;
  [[nodiscard]] std::vector<TensorEntry> WriteTensors() const;
  [[nodiscard]] Manifest Merge(const std::vector<std::string>& lists) const;
  [[nodiscard]] std::string Commit(const std::vector<std::string>& lists, bool replace);
  [[nodiscard]] bool TryReplaceLatest(bool last_try, Communicator& world) const;

  const ParameterStore& store_;
  int rank_;
  int ranks_;
  CheckpointMeta meta_;
  SaveOptions options_;
  StateRows rows_;
  Stream stream_;
  CheckedCheckpoints own_checked_;
  CheckedCheckpoints& checked_;
  std::string path_;
  std::string temporary_;
  bool in_place_ = false;
};

}  // namespace ksa
