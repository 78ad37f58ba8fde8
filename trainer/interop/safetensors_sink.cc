#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/files/paths.h"
#include "kernels/copy/elementwise.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"
#include "trainer/interop/safetensors.h"

namespace ksa {

SafetensorsSink::SafetensorsSink(const std::string& folder,
                                 std::vector<TensorInfo> tensors,
                                 const SafetensorsOptions& options)
    : folder_(folder), options_(options), tensors_(std::move(tensors)) {
  KSA_CHECK(
      options.type == StoredType::kF32 || options.type == StoredType::kBF16, "{} is not written", NameOf(options.type));
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  PlanShards();
}

SafetensorsSink::~SafetensorsSink() = default;

void SafetensorsSink::PlanShards() {
  int64_t in_shard = options_.shard_bytes;
  for (const TensorInfo& tensor : tensors_) {
    const int64_t bytes = tensor.size() * SizeOf(options_.type);
    if (shards_.empty() || in_shard + bytes > options_.shard_bytes) {
      shards_.emplace_back();
      in_shard = 0;
    }
    shards_.back().tensors.push_back({.name = tensor.name, .type = options_.type, .shape = tensor.shape});
    in_shard += bytes;
    bytes_ += bytes;
  }
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i].name =
        shards_.size() == 1 ? kSingleFile : fmt::format("model-{:05d}-of-{:05d}.safetensors", i + 1, shards_.size());
  }
}

void SafetensorsSink::OpenNext() {
  Shard& shard = shards_.at(opened_++);
  file_ = std::make_unique<File>(File::Create(folder_ + "/" + shard.name));
  const std::string header = RenderSafetensorsHeader(shard.tensors);
  file_->Write(header.data(), static_cast<int64_t>(header.size()));
  in_shard_ = 0;
}

void SafetensorsSink::Write(const TensorInfo& tensor, int64_t first, const TensorView& values) {
  if (file_ == nullptr) {
    OpenNext();
  }
  const StoredTensor& expected = shards_[opened_ - 1].tensors.at(in_shard_);
  KSA_CHECK(expected.name == tensor.name && first == written_, "{} comes out of order", tensor.name);
  if (options_.type == StoredType::kF32 && values.dtype == DType::kF32) {
    file_->Write(values.data, values.bytes());
  } else {
    HostAllocator memory;
    const Tensor rounded =
        Tensor::Empty({values.size()}, options_.type == StoredType::kF32 ? DType::kF32 : DType::kBF16, memory);
    Copy(values, rounded, {});
    file_->Write(rounded.view().data, rounded.view().bytes());
  }
  written_ += values.size();
  if (written_ == tensor.size()) {
    written_ = 0;
    if (++in_shard_ == shards_[opened_ - 1].tensors.size()) {
      CloseFile();
    }
  }
}

void SafetensorsSink::CloseFile() {
  file_->Sync();
  file_->Close();
  file_.reset();
}

std::string SafetensorsSink::RenderIndex() const {
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const Shard& shard : shards_) {
    for (const StoredTensor& tensor : shard.tensors) {
      map[tensor.name] = shard.name;
    }
  }
  nlohmann::ordered_json root;
  root["metadata"] = {{"total_size", bytes_}};
  root["weight_map"] = std::move(map);
  return root.dump(2) + "\n";
}

void SafetensorsSink::Finish() {
  KSA_CHECK(file_ == nullptr && opened_ == shards_.size(), "tensors are missing from {}", folder_);
  if (shards_.size() > 1) {
    WriteDurably(folder_ + "/" + kIndexFile, RenderIndex());
  }
}

}  // namespace ksa
