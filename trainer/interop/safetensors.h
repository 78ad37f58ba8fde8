// safetensors folders as source and sink of tensors. docs/design/interop.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/files/posix_file.h"
#include "trainer/checkpoint/tensor_source.h"
#include "trainer/interop/safetensors_header.h"

namespace ksa {

inline constexpr const char* kSingleFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

class SafetensorsSource final : public TensorSource {
 public:
  // `folder` holds model.safetensors, or the index and its shards. All headers are read and checked, and that the index
  // says where each tensor is. Error(kMissingInput) without either, kBadData, kIo.
  explicit SafetensorsSource(const std::string& folder);

  [[nodiscard]] const std::string& where() const override { return folder_; }

  // By name. F64 is read as fp64, all else as fp32.
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  // Reads the runs of the part; where they are short, with what lies between them. Error(kBadData) for values that are
  // not finite.
  void Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) override;

  // How a tensor is stored. It must be there.
  [[nodiscard]] StoredType TypeOf(const std::string& name) const;

 private:
  struct Place {
    size_t file = 0;
    StoredType type = StoredType::kF32;
    int64_t offset = 0;  // in the file
  };

  void AddFile(const std::string& name);
  void ReadRange(const TensorInfo& tensor, const Place& place, const FlatRange& range, const PartTarget& target) const;

  std::string folder_;
  std::vector<File> files_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, Place> places_;
};

struct SafetensorsOptions {
  StoredType type = StoredType::kBF16;  // or kF32
  int64_t shard_bytes =
      int64_t{5} * 1000 * 1000 * 1000;  // of a file's tensors; one larger tensor has a file of its own
};

class SafetensorsSink final : public TensorSink {
 public:
  // Writes into an existing folder. `tensors` are what will come, in any order.
  SafetensorsSink(const std::string& folder, std::vector<TensorInfo> tensors, const SafetensorsOptions& options);
  ~SafetensorsSink() override;

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  // Rounds to the type of the folder, to nearest even.
  void Write(const TensorInfo& tensor, int64_t first, const TensorView& values) override;
  void Finish() override;

  [[nodiscard]] int64_t bytes() const { return bytes_; }

  [[nodiscard]] size_t files() const { return shards_.size(); }

 private:
  struct Shard {
    std::string name;
    std::vector<StoredTensor> tensors;
  };

  void PlanShards();
  void OpenNext();
  void CloseFile();
  [[nodiscard]] std::string RenderIndex() const;

  std::string folder_;
  SafetensorsOptions options_;
  std::vector<TensorInfo> tensors_;  // in the order of the files
  std::vector<Shard> shards_;
  int64_t bytes_ = 0;
  size_t opened_ = 0;           // shards
  size_t in_shard_ = 0;         // the next tensor of the open one
  int64_t written_ = 0;         // elements of that tensor
  std::unique_ptr<File> file_;  // the open one
};

}  // namespace ksa
