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
  // Compares a tensor of a quantity ("gradients"); `tensor` names it in messages.
  void Compare(const std::string& quantity,
               const std::string& tensor,
               const std::vector<double>& actual,
               const std::vector<double>& expected,
               double bound);

  // What a tensor may be off by according to the run that this report is about: twice its error there, and one `floor`.
  // A tensor of few elements may be exact by luck, so its error counts as at least the typical one of its quantity.
  [[nodiscard]] double Twice(const std::string& quantity, const std::string& tensor, double floor) const;

  void Fail(const std::string& reason) { failures_.push_back(reason); }

  [[nodiscard]] bool passed() const { return failures_.empty() && !errors_.empty(); }

  // "logits 3.1e-15, gradients 2.0e-14 (model.norm.weight)", then the failures, a line each.
  [[nodiscard]] std::string Text() const;

 private:
  using Errors = std::map<std::string, double>;  // of each tensor

  std::vector<std::string> order_;
  std::map<std::string, Errors> errors_;
  std::vector<std::string> failures_;
};

}  // namespace ksa::testing
