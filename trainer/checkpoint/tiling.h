// Arithmetic of pieces: boxes of a row-major tensor, and flat ranges of boxes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"

namespace ksa {

// A shape as manifests have it.
[[nodiscard]] std::vector<int64_t> DimsOf(const Shape& shape);

// Elements of a shape; -1 when a dimension is not positive or the product exceeds 2^48.
[[nodiscard]] int64_t CheckedSize(const std::vector<int64_t>& shape);

// What is wrong with the pieces of a tensor: outside of it, overlapping, or leaving a hole. Empty: they tile it.
[[nodiscard]] std::string TilingFault(const TensorEntry& tensor);

// Elements of one piece that are consecutive both in the piece and in the whole tensor.
struct Run {
  int64_t in_piece = 0;   // first element in the piece's dataset
  int64_t in_tensor = 0;  // first element in the tensor
  int64_t size = 0;
};

// A range an axis of a tensor, of any number of dimensions.
using Block = std::vector<FlatRange>;

// The elements `range`, counted row-major inside, of a block: at most two blocks a dimension, less one.
[[nodiscard]] std::vector<Block> BlocksOf(const Block& block, const FlatRange& range);

[[nodiscard]] bool Overlap(const std::vector<Block>& a, const std::vector<Block>& b);

// The runs that cover the elements [begin, end) of a piece, in order.
class RunsOf {
 public:
  RunsOf(const TensorEntry& tensor, const TensorPiece& piece, int64_t begin, int64_t end);

  // The next run; false after the last one.
  bool Next(Run& run);

 private:
  const TensorEntry& tensor_;
  const TensorPiece& piece_;
  int64_t position_;  // in the box
  int64_t end_;       // in the box
  int64_t run_;       // elements of the box that are consecutive in the tensor
};

}  // namespace ksa
