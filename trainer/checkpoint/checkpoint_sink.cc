#include "trainer/checkpoint/checkpoint_sink.h"

#include <utility>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/tokenizer_copy.h"

namespace ksa {
namespace {

constexpr const char* kFile = "rank_00000_of_00001.h5";

std::string NameOf(const TensorInfo& tensor) {
  return "weights/" + tensor.name;
}

}  // namespace

CheckpointSink::CheckpointSink(const std::string& path,
                               std::vector<TensorInfo> tensors,
                               CheckpointMeta meta,
                               const std::optional<TokenizerFile>& tokenizer)
    : path_(path), tensors_(std::move(tensors)), meta_(std::move(meta)) {
  if (KindOfName(path) != PathKind::kNone) {
    Fail(ExitCode::kCannotCreate, "{}: something is there already; give a path for a new checkpoint", path);
  }
  folder_ = std::make_unique<StagedFolder>(path);
  if (tokenizer) {
    meta_.tokenizer = WriteTokenizerCopy(folder_->staging(), tokenizer->name, tokenizer->contents);
  }
  std::vector<PieceSpec> pieces;
  for (const TensorInfo& tensor : tensors_) {
    pieces.push_back({NameOf(tensor), tensor.dtype, tensor.size()});
  }
  writer_ = std::make_unique<PieceWriter>(folder_->staging() + "/" + kFile, std::move(pieces));
}

void CheckpointSink::Write(const TensorInfo& tensor, int64_t /*first*/, const TensorView& values) {
  try {
    writer_->Write(values);
  } catch (const Error& error) {
    if (error.code() == ExitCode::kDiverged) {
      Fail(ExitCode::kBadData, "{}: not written: {} holds values that are not finite", path_, tensor.name);
    }
    throw;
  }
}

void CheckpointSink::Finish() {
  const std::vector<uint64_t> hashes = writer_->Finish();
  Manifest manifest{meta_, {}};
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorInfo& tensor = tensors_[i];
    TensorEntry entry{NameOf(tensor), tensor.dtype, tensor.shape, {}};
    entry.pieces.push_back({.offset = std::vector<int64_t>(tensor.shape.size(), 0),
                            .shape = tensor.shape,
                            .flat = {0, tensor.size()},
                            .file = kFile,
                            .dataset = entry.name,
                            .xxh3 = hashes[i]});
    manifest.tensors.push_back(std::move(entry));
  }
  const std::string path = folder_->staging() + "/" + std::string(kManifestName);
  const std::string text = RenderManifest(manifest);
  static_cast<void>(ParseManifest(text, path));  // what the next reader will ask of it
  WriteDurably(path, text);
  SyncFolder(folder_->staging());
  folder_->Commit();
}

}  // namespace ksa
