// What the comparison of one golden file found.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace ksa::testing {

// How far `actual` is from `expected`: the largest difference over the largest magnitude expected; the difference
// itself where all of `expected` is zero. Another size or NaN: infinity.
[[nodiscard]] double GoldenError(const std::vector<double>& actual, const std::vector<double>& expected);

class Report {
 public:
  // Compares a tensor of a quantity ("gradients"); `tensor` names it in messages. The worst error a quantity is kept.
  void Compare(const std::string& quantity,
               const std::string& tensor,
               const std::vector<double>& actual,
               const std::vector<double>& expected,
               double bound);

  void Fail(const std::string& reason) { failures_.push_back(reason); }

  [[nodiscard]] bool FoundNothing() const { return failures_.empty(); }

  [[nodiscard]] bool passed() const { return failures_.empty() && !worst_.empty(); }

  // "logits 3.1e-15, gradients 2.0e-14 (model.norm.weight)", then the failures, a line each.
  [[nodiscard]] std::string Text() const;

 private:
  struct Worst {
    double error = 0.0;
    std::string tensor;
  };

  std::vector<std::string> order_;
  std::map<std::string, Worst> worst_;
  std::vector<std::string> failures_;
};

}  // namespace ksa::testing
