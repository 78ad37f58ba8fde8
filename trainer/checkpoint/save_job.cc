#include "trainer/checkpoint/save_job.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <string_view>
#include <utility>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/tokenizers/tokenizer.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/checked.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/checkpoint/prune.h"
#include "trainer/checkpoint/tiling.h"
#include "trainer/checkpoint/tokenizer_copy.h"

namespace ksa {
namespace {

std::string NameOfFile(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// The folder was there when the run began, or was made just now: what cannot be made, found or renamed in it is the
// disk's failure, not a path that was chosen badly.
std::string AsIo(const std::function<std::string()>& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kCannotCreate || error.code() == ExitCode::kMissingInput) {
      throw Error(ExitCode::kIo, error.what());
    }
    throw;
  }
}

// Reads back what was written: nothing is committed on a disk that lies.
void Recheck(const std::string& path, const std::vector<TensorEntry>& tensors) {
  PieceFile file(path);
  bool good = file.FrameIsIntact();
  for (const TensorEntry& tensor : tensors) {
    for (const TensorPiece& piece : tensor.pieces) {
      good = file.Read(piece.dataset, tensor.dtype, piece.size()) == piece.xxh3 && good;
    }
  }
  if (!good) {
    Fail(ExitCode::kIo, "{}: reads back differently from what was written", path);
  }
}

}  // namespace

StateRows RowsOfStore(const ParameterStore& store) {
  return [&store](StateKind kind, const FlatRange& range) {
    switch (kind) {
      case StateKind::kWeights:
        return store.Master(range);
      case StateKind::kExpAvg:
        return store.State(store.exp_avg(), range);
      default:
        return store.State(store.exp_avg_sq(), range);
    }
  };
}

SaveJob::SaveJob(const ParameterStore& store,
                 const Communicator& world,
                 CheckpointMeta meta,
                 SaveOptions options,
                 StateRows rows,
                 const Stream& stream)
    : store_(store),
      rank_(world.rank()),
      ranks_(world.size()),
      meta_(std::move(meta)),
      options_(std::move(options)),
      rows_(std::move(rows)),
      stream_(stream),
      checked_(options_.checked != nullptr ? *options_.checked : own_checked_),
      path_(options_.folder + "/" + CheckpointFolderName(meta_.step)),
      temporary_(TemporaryName(options_.folder, meta_.step, meta_.run_id)) {
  KSA_CHECK(!meta_.run_id.empty() && meta_.step >= 0 && options_.keep_last >= 1 && !options_.folder.empty(),
            "a checkpoint needs a run, a step, a folder and keep_last >= 1");
  KSA_CHECK(std::all_of(meta_.recent_grad_norms.begin(),
                        meta_.recent_grad_norms.end(),
                        [](double norm) { return std::isfinite(norm) && norm >= 0; }),
            "a norm that is not finite does not count");
  KSA_CHECK(options_.tokenizer_file.empty() || IsTokenizerFile(NameOfFile(options_.tokenizer_file)),
            "{} has no name of a tokenizer's file",
            options_.tokenizer_file);
}

void SaveJob::Prepare() {
  MakeCheckpointFolder(options_.folder);
  static_cast<void>(AsIo([this] { return Begin(); }));
}

std::string SaveJob::Write() const {
  return AsIo([this] { return RenderTensors(WriteTensors()); });
}

std::string SaveJob::Finish(const std::vector<std::string>& lists, Communicator& world) {
  const bool replace = MayReplace(world);
  OnRankZero(world, [&] { return AsIo([&] { return Commit(lists, replace); }); });
  // The checkpoint is safe: nothing from here on is a failure to save it.
  if (world.rank() == 0) {
    checked_.Remember(path_, true);
  }
  const bool named = TryReplaceLatest(false, world);
  Prune({options_.folder,
         meta_.run_id,
         meta_.step,
         options_.keep_last,
         options_.keep_every,
         [this](const std::string& text) { Warn(text); }},
        checked_,
        world);
  // On a disk that is full to the last block, removing old ones made room.
  if (!named) {
    static_cast<void>(TryReplaceLatest(true, world));
  }
  if (world.rank() == 0) {
    Report(SaveStage::kPruned);
  }
  return path_;
}

void SaveJob::Report(SaveStage stage) const {
  if (options_.on_stage) {
    options_.on_stage(stage);
  }
}

void SaveJob::Warn(const std::string& text) const {
  if (options_.warn) {
    options_.warn(text);
  } else {
    fmt::print(stderr, "warning: {}\n", text);
  }
}

std::string SaveJob::Begin() {
  // What is left of killed saves goes first: on a tight disk its room is needed. It may be what an exchange replaced,
  // so that exchange must be durable.
  SyncFolder(options_.folder);
  for (const std::string& left_over : UnfinishedIn(options_.folder, meta_.run_id)) {
    try {
      RemoveAll(left_over);
    } catch (const Error& error) {
      Warn(fmt::format("what an earlier save left stays: {}", error.what()));
    }
  }
  const std::optional<std::string> tokenizer = ReadTokenizer();
  const auto tokenizer_bytes = static_cast<int64_t>(tokenizer.value_or("").size());
  CheckRoomForCheckpoint(options_.folder, CheckpointBytes(store_) + tokenizer_bytes, meta_.run_id);
  MakeFolders(temporary_);
  if (tokenizer.has_value()) {
    meta_.tokenizer = WriteTokenizerCopy(temporary_, NameOfFile(options_.tokenizer_file), *tokenizer);
  }
  Report(SaveStage::kFolderMade);
  return {};
}

// The contents of the tokenizer's file, if there is one. A checkpoint without a copy is better than none.
std::optional<std::string> SaveJob::ReadTokenizer() const {
  if (options_.tokenizer_file.empty()) {
    return std::nullopt;
  }
  try {
    return ReadSmallFile(options_.tokenizer_file);
  } catch (const Error& error) {
    Warn(fmt::format("the checkpoint gets no copy of the tokenizer: {}", error.what()));
    return std::nullopt;
  }
}

// Whether what has the checkpoint's name by now gives way to it: this run's, and good, as after a step was repeated.
// All else is moved aside.
bool SaveJob::MayReplace(Communicator& world) {
  const std::string own = OnRankZero(world, [this] {
    try {
      const bool folder = KindOfName(path_) == PathKind::kFolder;
      return std::string(folder && OwnerOf(path_) == meta_.run_id ? "own" : "");
    } catch (const Error&) {
      return std::string();  // what cannot be read is moved aside
    }
  });
  return !own.empty() && IsGood(path_, meta_.step, checked_, world, [this](const std::string& text) { Warn(text); });
}

// The elements of the flat buffers that this rank writes of a parameter; empty when there are none. They are one run:
// a parameter lies in one bucket.
FlatRange SaveJob::ShareOf(const Parameter& parameter) const {
  for (const FlatRange& owned : store_.owned()) {
    const FlatRange share = Intersect(owned, {parameter.offset, parameter.offset + parameter.shape.size()});
    if (share.size() > 0) {
      return share;
    }
  }
  return {};
}

// Every tensor, with this rank's piece if it has one, but for the hash, and where the piece's elements lie in memory.
std::vector<TensorEntry> SaveJob::PlanTensors(std::vector<PieceDataset>& datasets) const {
  constexpr std::array<std::pair<std::string_view, StateKind>, 3> kKinds{
      {{"weights/", StateKind::kWeights}, {"exp_avg/", StateKind::kExpAvg}, {"exp_avg_sq/", StateKind::kExpAvgSq}}};
  std::vector<TensorEntry> tensors;
  for (const auto& [prefix, kind] : kKinds) {
    for (const Parameter& parameter : store_.parameters()) {
      TensorEntry tensor;
      tensor.name = std::string(prefix) + parameter.spec.name;
      tensor.dtype = store_.state_dtype();
      tensor.shape = DimsOf(parameter.spec.shape);
      const FlatRange share = ShareOf(parameter);
      if (share.size() > 0) {
        TensorPiece piece;
        piece.offset.assign(tensor.shape.size(), 0);
        piece.shape = DimsOf(parameter.shape);
        if (parameter.spec.tensor.kind == Placement::Kind::kSharded) {
          piece.offset[static_cast<size_t>(parameter.spec.tensor.dim)] = parameter.shard_begin;
        }
        piece.flat = {share.begin - parameter.offset, share.end - parameter.offset};
        piece.file = FileName();
        piece.dataset = tensor.name;
        tensor.pieces.push_back(std::move(piece));
        datasets.push_back({tensor.name, rows_(kind, share)});
      }
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

std::string SaveJob::FileName() const {
  return fmt::format("rank_{:05d}_of_{:05d}.h5", rank_, ranks_);
}

std::vector<TensorEntry> SaveJob::WriteTensors() const {
  std::vector<PieceDataset> datasets;
  std::vector<TensorEntry> tensors = PlanTensors(datasets);
  if (!datasets.empty()) {
    const std::string path = temporary_ + "/" + FileName();
    const std::vector<uint64_t> hashes = WritePieceFile(path, datasets, stream_);
    auto hash = hashes.begin();
    for (TensorEntry& tensor : tensors) {
      for (TensorPiece& piece : tensor.pieces) {
        piece.xxh3 = *hash++;
      }
    }
    Recheck(path, tensors);
  }
  Report(SaveStage::kTensorsWritten);
  return tensors;
}

Manifest SaveJob::Merge(const std::vector<std::string>& lists) const {
  Manifest manifest{meta_, {}};
  for (const std::string& list : lists) {
    std::vector<TensorEntry> tensors = ParseTensors(list, "the tensor list of a rank");
    if (manifest.tensors.empty()) {
      manifest.tensors = std::move(tensors);
      continue;
    }
    KSA_CHECK(manifest.tensors.size() == tensors.size(), "ranks hold different models");
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::vector<TensorPiece>& pieces = manifest.tensors[i].pieces;
      pieces.insert(pieces.end(), tensors[i].pieces.begin(), tensors[i].pieces.end());
    }
  }
  return manifest;
}

std::string SaveJob::Commit(const std::vector<std::string>& lists, bool replace) {
  if (options_.before_commit) {
    options_.before_commit();
  }
  const std::string path = fmt::format("{}/{}", temporary_, kManifestName);
  WriteDurably(path, RenderManifest(Merge(lists)));
  static_cast<void>(ParseManifest(ReadSmallFile(path), path));  // what the next reader will ask of it
  SyncFolder(temporary_);
  Report(SaveStage::kManifestWritten);

  const bool replaced = PutInPlace(options_.folder, meta_.step, meta_.run_id, replace);
  in_place_ = true;
  SyncFolder(options_.folder);
  if (replaced) {
    try {
      RemoveAll(temporary_);
    } catch (const Error& error) {
      Warn(fmt::format("the checkpoint that was replaced stays: {}", error.what()));
    }
  }
  Report(SaveStage::kRenamed);
  return {};
}

// Rank 0 writes the name of the checkpoint for people and scripts; whether it could. Nothing else relies on it.
bool SaveJob::TryReplaceLatest(bool last_try, Communicator& world) const {
  const std::string done = OnRankZero(world, [&] {
    try {
      WriteFileAtomically(options_.folder + "/latest", CheckpointFolderName(meta_.step) + "\n");
      SyncFolder(options_.folder);
    } catch (const Error& error) {
      if (last_try) {
        Warn(fmt::format("the checkpoint is saved, but not named: {}", error.what()));
      }
      return std::string();
    }
    Report(SaveStage::kLatestReplaced);
    return std::string("done");
  });
  return !done.empty();
}

// Best effort: what cannot be removed now is removed by the next save of this run. Once the checkpoint is in place,
// its temporary name holds the one that it replaced, which stays until the new one is durable.
void SaveJob::RemovePartial() const {
  if (rank_ != 0 || in_place_) {
    return;
  }
  try {
    RemoveAll(temporary_);
  } catch (const Error&) {
    return;
  }
}

}  // namespace ksa
