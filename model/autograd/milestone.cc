#include "model/autograd/milestone.h"

#include <utility>

namespace ksa {
namespace {

class MilestoneNode final : public Node {
 public:
  explicit MilestoneNode(std::function<void()> reached) : reached_(std::move(reached)) {}

  [[nodiscard]] const char* name() const override { return "milestone"; }

  void Backward(const ExecContext& /*cx*/) override { reached_(); }

 private:
  std::function<void()> reached_;
};

}  // namespace

void Milestone(const ExecContext& cx, std::function<void()> reached) {
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<MilestoneNode>(std::move(reached)));
  }
}

}  // namespace ksa
