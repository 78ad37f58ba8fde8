// The tensors of a checkpoint as a TensorSource, named as in the manifest.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/checkpoint/tensor_source.h"

namespace ksa {

// Every piece is checked against its hash before anything of it is used; a piece of which another part is asked later
// is read a second time, but not hashed. Only pieces that hold something of what is asked are read. Takes memory for a
// chunk of a file.
class CheckpointSource final : public TensorSource {
 public:
  // `checkpoint` outlives it.
  explicit CheckpointSource(const Checkpoint& checkpoint);

  [[nodiscard]] const std::string& where() const override { return checkpoint_.path; }

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  // Error(kBadData) for missing or corrupt pieces, kIo for what cannot be read, kMissingInput when the checkpoint has
  // gone meanwhile.
  void Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) override;

  // Error(kBadData) when files of the checkpoint are shorter than what these of its tensors are said to take. Call it
  // before memory is taken for what a manifest says.
  void RefuseShortFiles(const std::vector<const TensorEntry*>& tensors) const;
  void RefuseShortFiles() const;

  [[nodiscard]] LoadCount count() const;

 private:
  void ReadPieces(const TensorEntry& tensor, const PartTarget& target, const std::vector<Block>& wanted);
  void ReadPiece(const TensorEntry& tensor, const TensorPiece& piece, const PartTarget& target);
  [[nodiscard]] const PieceFile& Open(const std::string& name);

  const Checkpoint& checkpoint_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, const TensorEntry*> entries_;
  std::map<std::string, PieceFile> files_;
  std::set<std::string> seen_;
  std::set<const TensorPiece*> verified_;
  LoadCount count_;
};

// The weights of a checkpoint under the names of its parameters.
class WeightsOfCheckpoint final : public TensorSource {
 public:
  explicit WeightsOfCheckpoint(Checkpoint checkpoint);

  [[nodiscard]] const Checkpoint& checkpoint() const { return checkpoint_; }

  [[nodiscard]] const std::string& where() const override { return checkpoint_.path; }

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  void Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) override;

 private:
  Checkpoint checkpoint_;
  CheckpointSource source_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace ksa
