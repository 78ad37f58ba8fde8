// Keys and values that travel, or are kept, as something smaller that they are expanded from.
#pragma once

#include "kernels/core/tensor.h"
#include "model/autograd/context.h"

namespace ksa {

// Keys and values, or their gradients; or what they are expanded from.
struct KeyPair {
  Tensor k;
  Tensor v;
};

// The same without ownership.
struct KeyViews {
  TensorView k;
  TensorView v;
};

class KeyExpander {
 public:
  KeyExpander() = default;
  KeyExpander(const KeyExpander&) = delete;
  KeyExpander& operator=(const KeyExpander&) = delete;
  virtual ~KeyExpander() = default;

  // Columns of a head of values.
  [[nodiscard]] virtual int value_dim() const = 0;

  // Rows of `small` -> as many rows of keys [n, g·e] and values [n, g·c].
  [[nodiscard]] virtual KeyPair Expand(const ExecContext& cx, const KeyViews& small) const = 0;

  // The gradient of `small` from that of what it expands to; adds to those of the parameters.
  [[nodiscard]] virtual KeyPair Backward(const ExecContext& cx,
                                         const KeyViews& small,
                                         const KeyPair& gradients) const = 0;
};

}  // namespace ksa
