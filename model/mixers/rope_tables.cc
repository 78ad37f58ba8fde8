#include "model/mixers/rope_tables.h"

#include "kernels/rope/qk_norm_rope.h"

namespace ksa {

TensorView RopeTables::Of(int columns) {
  const auto [found, is_new] = tables_.try_emplace(columns);
  if (is_new) {
    found->second = Tensor::Empty({positions_, columns / 2, 2}, dtype_, allocator_);
    FillRopeTable(found->second, theta_, stream_);
  }
  return found->second;
}

}  // namespace ksa
