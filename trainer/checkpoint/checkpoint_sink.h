// A checkpoint of weights alone, written by one process from any source of tensors: what import and average make.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/shards/staged_folder.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/checkpoint/tensor_source.h"

namespace ksa {

// A tokenizer's file for a checkpoint.
struct TokenizerFile {
  std::string name;  // one of kTokenizerFiles
  std::string contents;
};

class CheckpointSink final : public TensorSink {
 public:
  // `path` must not exist; the folder appears there whole when Finish() is done. `tensors` are named as parameters.
  // Error(kCannotCreate) when it exists or cannot be made, kIo.
  CheckpointSink(const std::string& path,
                 std::vector<TensorInfo> tensors,
                 CheckpointMeta meta,
                 const std::optional<TokenizerFile>& tokenizer = std::nullopt);

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  // Error(kBadData) for a value that is not finite.
  void Write(const TensorInfo& tensor, int64_t first, const TensorView& values) override;
  void Finish() override;

 private:
  std::string path_;
  std::vector<TensorInfo> tensors_;
  CheckpointMeta meta_;
  std::unique_ptr<StagedFolder> folder_;
  std::unique_ptr<PieceWriter> writer_;
};

}  // namespace ksa
