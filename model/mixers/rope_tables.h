// Tables of rotary positions, one a width, made when a mixer first asks for it.
#pragma once

#include <cstdint>
#include <map>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

class RopeTables {
 public:
  // `allocator` must outlive the tables.
  RopeTables(int64_t positions, double theta, DType dtype, Allocator& allocator, const Stream& stream)
      : positions_(positions), theta_(theta), dtype_(dtype), allocator_(allocator), stream_(stream) {}

  [[nodiscard]] int64_t positions() const { return positions_; }

  // [positions, columns/2, 2] of FillRopeTable; lives as long as the tables.
  [[nodiscard]] TensorView Of(int columns);

 private:
  int64_t positions_;
  double theta_;
  DType dtype_;
  Allocator& allocator_;
  Stream stream_;
  std::map<int, Tensor> tables_;
};

}  // namespace ksa
