// A cross-entropy problem with random inputs, and its answer with the rounding errors that a kernel may make.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/loss/linear_cross_entropy.h"
#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {

inline constexpr double kGradScale = 0.25;

struct LossProblem {
  LossProblem(int64_t rows, int64_t dim, int64_t vocabulary, DType type, Allocator& allocator)
      : n(rows), d(dim), v(vocabulary), dtype(type), memory(allocator) {
    const DType wide = AccumulationType(dtype);
    x = Normal("x", {n, d}, dtype, memory);
    weight = Normal("weight", {v, d}, dtype, memory);
    targets = Integers("targets", {n}, 0, static_cast<int32_t>(v), memory);
    for (int64_t r = 2; r < n; r += 5) {
      targets.As<int32_t>()[r] = -1;
    }
    row_loss = Tensor::Empty({n}, wide, memory);
    loss_sum = Tensor::Empty({1}, DType::kF64, memory);
    dx = Tensor::Empty({n, d}, dtype, memory);
    dweight = Normal("dweight", {v, d}, wide, memory);
  }

  void Run(bool backward, bool accumulate, const Stream& stream = {}) const {
    loss_sum.As<double>()[0] = 0.0;
    LinearCrossEntropy({.x = x,
                        .weight = weight,
                        .targets = targets,
                        .row_loss = row_loss,
                        .loss_sum = loss_sum,
                        .dx = backward ? dx.view() : TensorView{},
                        .dweight = backward ? dweight.view() : TensorView{},
                        .accumulate = accumulate,
                        .grad_scale = kGradScale,
                        .allocator = &memory},
                       stream);
  }

  int64_t n;
  int64_t d;
  int64_t v;
  DType dtype;
  Allocator& memory;
  Tensor x, weight, targets, row_loss, loss_sum, dx, dweight;
};

// What the kernel computes, with all logits at once.
class LossReference {
 public:
  explicit LossReference(const LossProblem& p)
      : n_(static_cast<size_t>(p.n)),
        d_(static_cast<size_t>(p.d)),
        v_(static_cast<size_t>(p.v)),
        x_(Exact(p.x)),
        weight_(Exact(p.weight)) {
    for (size_t r = 0; r < n_; ++r) {
      Row(r, p.targets.As<int32_t>()[r], p.dtype);
    }
  }

  [[nodiscard]] const BoundedValues& losses() const { return losses_; }

  [[nodiscard]] BoundedValues Dx() const { return Dx(0, v_); }

  // What the ids [first, last) of the vocabulary add to it.
  [[nodiscard]] BoundedValues Dx(size_t first, size_t last) const {
    BoundedValues out;
    for (size_t r = 0; r < n_; ++r) {
      for (size_t i = 0; i < d_; ++i) {
        Sum sum;
        for (size_t j = first; j < last; ++j) {
          sum.Add(dlogits_[r * v_ + j] * weight_[j * d_ + i]);
        }
        out.push_back(sum.Result());
      }
    }
    return out;
  }

  [[nodiscard]] BoundedValues Dweight(const BoundedValues& before, bool accumulate) const {
    BoundedValues out;
    for (size_t j = 0; j < v_; ++j) {
      for (size_t i = 0; i < d_; ++i) {
        Sum sum;
        if (accumulate) {
          sum.Add(before[j * d_ + i]);
        }
        for (size_t r = 0; r < n_; ++r) {
          sum.Add(dlogits_[r * v_ + j] * x_[r * d_ + i]);
        }
        out.push_back(sum.Result());
      }
    }
    return out;
  }

 private:
  void Row(size_t r, int32_t target, DType dtype) {
    if (target < 0) {
      losses_.emplace_back();
      dlogits_.insert(dlogits_.end(), v_, Bounded());
      return;
    }
    BoundedValues logits;
    Bounded largest(-std::numeric_limits<long double>::infinity());
    for (size_t j = 0; j < v_; ++j) {
      Sum sum;
      for (size_t i = 0; i < d_; ++i) {
        sum.Add(x_[r * d_ + i] * weight_[j * d_ + i]);
      }
      logits.push_back(sum.Result());
      largest = logits[j].value > largest.value ? logits[j] : largest;
    }
    Sum total;
    BoundedValues exponentials;
    for (const Bounded& logit : logits) {
      exponentials.push_back(Exponential(logit - largest));
      total.Add(exponentials.back());
    }
    const Bounded sum = total.Result();
    const auto t = static_cast<size_t>(target);
    losses_.push_back(Logarithm(sum) - (logits[t] - largest));
    for (size_t j = 0; j < v_; ++j) {
      const Bounded probability = exponentials[j] / sum;
      Bounded gradient = (j == t ? probability - Bounded(1) : probability) * Bounded(kGradScale);
      if (dtype == DType::kBF16) {  // the products take it rounded
        gradient.error += UnitRoundoff(dtype) * std::abs(gradient.value);
      }
      dlogits_.push_back(gradient);
    }
  }

  size_t n_;
  size_t d_;
  size_t v_;
  BoundedValues x_;
  BoundedValues weight_;
  BoundedValues losses_;
  BoundedValues dlogits_;
};

}  // namespace ksa::testing
