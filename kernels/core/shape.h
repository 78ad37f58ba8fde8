// The extent of a tensor: up to four dimensions, row-major.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace ksa {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);

  [[nodiscard]] int rank() const { return rank_; }

  [[nodiscard]] int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }

  [[nodiscard]] int64_t size() const;                // number of elements; 1 for rank 0
  [[nodiscard]] int64_t RowSize() const;             // elements behind one index of dimension 0
  [[nodiscard]] std::string ToString() const;        // "[3, 4]"
  [[nodiscard]] Shape WithRows(int64_t rows) const;  // the same with another dimension 0
  [[nodiscard]] Shape With(int dim, int64_t size) const;
  [[nodiscard]] int64_t SizeBehind(int dim) const;  // elements behind one index of dimension `dim`

  friend bool operator==(const Shape& a, const Shape& b) { return a.rank_ == b.rank_ && a.dims_ == b.dims_; }

 private:
  int rank_ = 0;
  std::array<int64_t, kMaxRank> dims_{};
};

}  // namespace ksa
