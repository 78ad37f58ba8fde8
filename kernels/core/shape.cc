#include "kernels/core/shape.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace ksa {

Shape::Shape(std::initializer_list<int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  KSA_CHECK(rank_ <= kMaxRank, "a shape has at most {} dimensions, got {}", kMaxRank, dims.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
  for (const int64_t dim : dims) {
    KSA_CHECK(dim >= 0, "a dimension is negative in {}", ToString());
  }
}

int64_t Shape::size() const {
  int64_t size = 1;
  for (int i = 0; i < rank_; ++i) {
    size *= (*this)[i];
  }
  return size;
}

int64_t Shape::RowSize() const {
  return SizeBehind(0);
}

int64_t Shape::SizeBehind(int dim) const {
  int64_t size = 1;
  for (int i = dim + 1; i < rank_; ++i) {
    size *= (*this)[i];
  }
  return size;
}

std::string Shape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", (*this)[i]);
  }
  return text + "]";
}

Shape Shape::WithRows(int64_t rows) const {
  KSA_CHECK(rank_ > 0, "a scalar has no rows");
  return With(0, rows);
}

Shape Shape::With(int dim, int64_t size) const {
  KSA_CHECK(0 <= dim && dim < rank_ && size >= 0, "{} has no dimension {} of {}", ToString(), dim, size);
  Shape shape = *this;
  shape.dims_[static_cast<size_t>(dim)] = size;
  return shape;
}

}  // namespace ksa
