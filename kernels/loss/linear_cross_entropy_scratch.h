// Scratch of the cross-entropy on a GPU, and on a dry stream.
//
// Rows are taken in chunks of equal size, multiples of kRowStep, of at most kMostRows whose fp32 logits fill at most
// kLogitBytes (or kRowStep rows, where these are more); bf16 gradients lie beside them. Of a vocabulary in parts, the
// chunks are those of its longest part.
#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"
#include "kernels/loss/linear_cross_entropy.h"

namespace ksa {

// Rows of a chunk, of n rows and a vocabulary (its longest part) of so many; 0 without rows.
[[nodiscard]] int64_t CrossEntropyChunk(int64_t n, int64_t vocabulary);
[[nodiscard]] int64_t CrossEntropyChunk(const LinearCrossEntropyArgs& args);

// Of one call, for chunks of CrossEntropyChunk rows.
struct CrossEntropyScratch {
  Tensor logits;    // [rows, v] fp32
  Tensor gradient;  // [rows, v] bf16; fp32 gradients take the place of the logits
  Tensor teacher;   // [rows, v] fp32, where there is a teacher
  Tensor losses;    // [n] fp32, where the caller does not ask for them
  Tensor terms;     // [4, n] fp32, with further terms: largest logits and the three terms; [1, n] for the first alone
  Tensor stats;     // [parts · rows, StatisticsOfRow] fp32, where there are several parts or further terms
};

[[nodiscard]] CrossEntropyScratch TakeCrossEntropyScratch(const LinearCrossEntropyArgs& args);

// The part of `scratch` that the statistics of `rows` rows lie in: [parts, rows, StatisticsOfRow]; empty where there is
// one part and nothing but the cross-entropy.
[[nodiscard]] TensorView StatisticsOf(const LinearCrossEntropyArgs& args,
                                      const CrossEntropyScratch& scratch,
                                      int64_t rows);

}  // namespace ksa
