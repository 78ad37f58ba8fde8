// Self-distillation: what pulls a student's attention output towards its teacher's.
#pragma once

#include "model/autograd/tape.h"

namespace ksa {

// Of one layer. The teacher's output is needed until the student's layer has run once, and no longer.
struct AttentionTarget {
  Tensor teacher;          // [text rows, d], where the student's rows lie
  double scale = 0.0;      // of the gradient of the sum
  bool normalize = false;  // rows are divided by the root of their mean square first
  Tensor sum;              // [1] fp64, added to: the sum over elements (kernels/distill/attention_term.h)
};

// x itself, with the gradient of scale · sum added to its first rows in backward. The gradient is computed here, and
// kept where a block runs again, so that backward reads neither x nor the teacher. Of x that is the same on several
// tensor ranks, the first one counts the sum.
[[nodiscard]] Var PullToTeacher(const ExecContext& cx, const Var& x, const AttentionTarget& target);

}  // namespace ksa
