#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string_view>
#include <system_error>
#include <utility>

#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/piece_file.h"

namespace ksa {
namespace {

constexpr mode_t kFolderMode = 0777;  // less the umask

std::vector<int64_t> DimsOf(const Shape& shape) {
  std::vector<int64_t> dims;
  for (int d = 0; d < shape.rank(); ++d) {
    dims.push_back(shape[d]);
  }
  return dims;
}

// One checkpoint in the making, on one rank.
class Saver {
 public:
  Saver(const ParameterStore& store,
        Communicator& world,
        const CheckpointMeta& meta,
        const SaveOptions& options,
        const Stream& stream)
      : store_(store),
        world_(world),
        meta_(meta),
        options_(options),
        stream_(stream),
        temporary_(TemporaryName(options.folder, meta.step, meta.run_id)) {}

  std::string Save() {
    try {
      OnRankZero(world_, [this] {
        Begin();
        return std::string();
      });
      const std::vector<std::string> lists = OnAllRanks(world_, [this] { return RenderTensors(WriteTensors()); });
      return OnRankZero(world_, [&] { return Commit(lists); });
    } catch (const Error&) {
      RemovePartial();
      throw;
    }
  }

 private:
  void Report(SaveStage stage) const {
    if (options_.on_stage) {
      options_.on_stage(stage);
    }
  }

  void Begin() const {
    PrepareCheckpointFolder(options_.folder, CheckpointBytes(store_));
    RemoveUnfinished(options_.folder, meta_.run_id);
    if (mkdir(temporary_.c_str(), kFolderMode) != 0) {
      Fail(ExitCode::kCannotCreate, "{}: cannot be made: {}", temporary_, std::strerror(errno));
    }
    Report(SaveStage::kFolderMade);
  }

  // The elements of the flat buffers that this rank writes of a parameter; empty when there are none. They are one run:
  // a parameter lies in one bucket.
  [[nodiscard]] FlatRange ShareOf(const Parameter& parameter) const {
    for (const FlatRange& owned : store_.owned()) {
      const FlatRange share = Intersect(owned, {parameter.offset, parameter.offset + parameter.shape.size()});
      if (share.size() > 0) {
        return share;
      }
    }
    return {};
  }

  // Every tensor, with this rank's piece if it has one, but for the hash, and where the piece's elements lie in memory.
  [[nodiscard]] std::vector<TensorEntry> PlanTensors(std::vector<PieceDataset>& datasets) const {
    using Rows = std::function<TensorView(const FlatRange&)>;
    const std::array<std::pair<std::string_view, Rows>, 3> kinds{
        {{"weights/", [this](const FlatRange& range) { return store_.Master(range); }},
         {"exp_avg/", [this](const FlatRange& range) { return store_.State(store_.exp_avg(), range); }},
         {"exp_avg_sq/", [this](const FlatRange& range) { return store_.State(store_.exp_avg_sq(), range); }}}};
    std::vector<TensorEntry> tensors;
    for (const auto& [prefix, rows] : kinds) {
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
          datasets.push_back({tensor.name, rows(share)});
        }
        tensors.push_back(std::move(tensor));
      }
    }
    return tensors;
  }

  [[nodiscard]] std::string FileName() const {
    return fmt::format("rank_{:05d}_of_{:05d}.h5", world_.rank(), world_.size());
  }

  [[nodiscard]] std::vector<TensorEntry> WriteTensors() const {
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

  // Reads back what was written: nothing is committed on a disk that lies.
  static void Recheck(const std::string& path, const std::vector<TensorEntry>& tensors) {
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

  [[nodiscard]] Manifest Merge(const std::vector<std::string>& lists) const {
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

  [[nodiscard]] std::string Commit(const std::vector<std::string>& lists) const {
    const std::string path = fmt::format("{}/{}", temporary_, kManifestName);
    const std::string text = RenderManifest(Merge(lists));
    File file = File::Create(path);
    file.Write(text.data(), static_cast<int64_t>(text.size()));
    file.Sync();
    file.Close();
    static_cast<void>(ParseManifest(ReadSmallFile(path), path));  // what the next reader will ask of it
    SyncFolder(temporary_);
    Report(SaveStage::kManifestWritten);

    Install(options_.folder, meta_.step, meta_.run_id);
    Report(SaveStage::kRenamed);
    try {
      ReplaceLatest();
    } catch (const Error&) {
      // The checkpoint is safe, but the disk is full to the last block: removing old ones makes room.
      Prune(options_.folder, meta_.step, options_.keep_last, meta_.run_id);
      ReplaceLatest();
    }
    Report(SaveStage::kLatestReplaced);
    Prune(options_.folder, meta_.step, options_.keep_last, meta_.run_id);
    Report(SaveStage::kPruned);
    return options_.folder + "/" + CheckpointFolderName(meta_.step);
  }

  void ReplaceLatest() const {
    WriteFileAtomically(options_.folder + "/latest", CheckpointFolderName(meta_.step) + "\n");
    SyncFolder(options_.folder);
  }

  // Best effort: what cannot be removed now is removed by the next save of this run. Once installed, the temporary
  // folder is gone and nothing happens.
  void RemovePartial() const {
    if (world_.rank() == 0) {
      std::error_code ignored;
      std::filesystem::remove_all(temporary_, ignored);
    }
  }

  const ParameterStore& store_;
  Communicator& world_;
  const CheckpointMeta& meta_;
  const SaveOptions& options_;
  const Stream& stream_;
  std::string temporary_;
};

}  // namespace

int64_t CheckpointBytes(const ParameterStore& store) {
  return 3 * store.element_count() * SizeOf(store.state_dtype());
}

std::string SaveCheckpoint(const ParameterStore& store,
                           Communicator& world,
                           const CheckpointMeta& meta,
                           const SaveOptions& options,
                           const Stream& stream) {
  KSA_CHECK(!meta.run_id.empty() && meta.step >= 0 && options.keep_last >= 1 && !options.folder.empty(),
            "a checkpoint needs a run, a step, a folder and keep_last >= 1");
  return Saver(store, world, meta, options, stream).Save();
}

}  // namespace ksa
