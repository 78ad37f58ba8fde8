// The host's BLAS library, opened when a product is made for the first time: commands that make none need neither its
// memory nor the library.
#pragma once

namespace ksa::cpu {

// C = alpha · op(A) · op(B) + beta · C, row-major; m x n, k summed over; rows `lda`, `ldb`, `ldc` elements apart.
template <typename A>
struct BlasProduct {
  bool transpose_a = false;
  bool transpose_b = false;
  int m = 0;
  int n = 0;
  int k = 0;
  A alpha = 1;
  const A* a = nullptr;
  int lda = 0;
  const A* b = nullptr;
  int ldb = 0;
  A beta = 0;
  A* c = nullptr;
  int ldc = 0;
};

// float and double. At most `threads` threads. The first call of a process opens the library: Error(kOutOfMemory) when
// the address space does not hold the library and the buffers of `threads` threads, Error(kMissingInput) when it is not
// installed.
template <typename A>
void Multiply(const BlasProduct<A>& product, int threads);

}  // namespace ksa::cpu
