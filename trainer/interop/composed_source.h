// A source whose tensors are put together from rows of another's: what a layout of files asks for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trainer/checkpoint/tensor_source.h"

namespace ksa {

// Rows [first, first + count) of a tensor; of none: zeros.
struct RowPiece {
  std::string tensor;
  int64_t first = 0;
  int64_t count = 0;
};

struct ComposedTensor {
  TensorInfo info;
  std::vector<RowPiece> pieces;  // one after the other
};

// A tensor as it is.
[[nodiscard]] ComposedTensor SameTensor(const TensorInfo& tensor);

class ComposedSource final : public TensorSource {
 public:
  ComposedSource(std::shared_ptr<TensorSource> base, std::vector<ComposedTensor> tensors);

  [[nodiscard]] const std::string& where() const override { return base_->where(); }

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return infos_; }

  // What is put together is cut along its rows only.
  void Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) override;

 private:
  std::shared_ptr<TensorSource> base_;
  std::vector<ComposedTensor> composed_;
  std::vector<TensorInfo> infos_;
};

// The elements of the whole tensor that a part is, where its box is cut along the rows only. Error(kInternal)
// otherwise.
[[nodiscard]] FlatRange ElementsOf(const TensorInfo& tensor, const TensorPart& part);

// The mean of sources that have the same tensors, computed in fp64.
class AverageSource final : public TensorSource {
 public:
  // Error(kConfig) when they are not of one model, with every difference.
  explicit AverageSource(std::vector<std::unique_ptr<TensorSource>> sources);

  [[nodiscard]] const std::string& where() const override { return sources_.front()->where(); }

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return sources_.front()->tensors(); }

  void Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) override;

 private:
  std::vector<std::unique_ptr<TensorSource>> sources_;
};

}  // namespace ksa
