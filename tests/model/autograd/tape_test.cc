#include "model/autograd/tape.h"

#include <functional>

#include "kernels/copy/elementwise.h"
#include "kernels/core/host_allocator.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::ToDouble;

constexpr int64_t kBlock = 512;  // what HostAllocator rounds to

class TapeTest : public ::testing::Test {
 protected:
  Tensor Filled(const Shape& shape, double value) {
    Tensor x = cx_.Empty(shape, DType::kF64);
    std::fill_n(x.As<double>(), x.size(), value);
    return x;
  }

  Var NewLeaf(const Shape& shape) { return Leaf(cx_, Filled(shape, 0.0), Placements::Rows()); }

  HostAllocator allocator_;
  Tape tape_;
  ExecContext cx_ = {.tape = &tape_, .stream = {}, .allocator = &allocator_};
};

// An operation whose backward is given by the test.
class TestNode final : public Node {
 public:
  explicit TestNode(std::function<void(const ExecContext&)> backward, Tensor saved = {})
      : backward_(std::move(backward)), saved_(std::move(saved)) {}

  [[nodiscard]] const char* name() const override { return "test"; }

  void Backward(const ExecContext& cx) override { backward_(cx); }

 private:
  std::function<void(const ExecContext&)> backward_;
  Tensor saved_;
};

TEST_F(TapeTest, TheFirstGradientIsAdoptedWithoutACopy) {
  const int slot = tape_.NewSlot();
  Tensor grad = Filled({2}, 1.0);
  const void* data = grad.view().data;
  tape_.AddGrad(cx_, slot, std::move(grad));
  EXPECT_EQ(tape_.TakeGrad(slot).view().data, data);
}

TEST_F(TapeTest, GradientsAreAdded) {
  const int slot = tape_.NewSlot();
  for (const double value : {1.0, 2.0, 4.0}) {
    tape_.AddGrad(cx_, slot, Filled({3}, value));
  }
  EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), std::vector<double>({7.0, 7.0, 7.0}));
  EXPECT_TRUE(tape_.TakeGrad(slot).empty()) << "a gradient is taken once";
}

TEST_F(TapeTest, NothingReachesASlotThatIsNone) {
  tape_.AddGrad(cx_, -1, Filled({1}, 1.0));
  tape_.AddGradRows(cx_, -1, {3}, 1, Filled({1}, 1.0));
  EXPECT_TRUE(tape_.TakeGrad(-1).empty());
  const int slot = tape_.NewSlot();
  tape_.AddGrad(cx_, slot, Tensor());
  tape_.AddGradRows(cx_, slot, {3}, 1, Tensor());
  EXPECT_TRUE(tape_.TakeGrad(slot).empty());
}

TEST_F(TapeTest, ABufferThatSomebodyElseHoldsIsNotWritten) {
  const Tensor shared = Filled({2}, 1.0);
  const Tensor also_shared = Filled({2}, 2.0);
  const int slot = tape_.NewSlot();
  tape_.AddGrad(cx_, slot, shared);       // adopted
  tape_.AddGrad(cx_, slot, also_shared);  // both are held here
  tape_.AddGrad(cx_, slot, Filled({2}, 4.0));
  EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), std::vector<double>({7.0, 7.0}));
  tape_.AddGrad(cx_, slot, shared);
  tape_.AddGrad(cx_, slot, Filled({2}, 4.0));  // the sum may go into the new one
  EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), std::vector<double>({5.0, 5.0}));
  tape_.AddGrad(cx_, slot, Filled({2}, 4.0));
  tape_.AddGrad(cx_, slot, shared);
  EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), std::vector<double>({5.0, 5.0}));
  EXPECT_EQ(ToDouble(shared), std::vector<double>({1.0, 1.0}));
  EXPECT_EQ(ToDouble(also_shared), std::vector<double>({2.0, 2.0}));
}

TEST_F(TapeTest, OneGradientInTwoSlots) {
  const int a = tape_.NewSlot();
  const int b = tape_.NewSlot();
  {
    const Tensor grad = Filled({2}, 1.0);
    tape_.AddGrad(cx_, a, grad);
    tape_.AddGrad(cx_, b, grad);
  }
  tape_.AddGrad(cx_, a, Filled({2}, 10.0));
  tape_.AddGradRows(cx_, b, {2}, 1, Filled({1}, 100.0));
  EXPECT_EQ(ToDouble(tape_.TakeGrad(a)), std::vector<double>({11.0, 11.0}));
  EXPECT_EQ(ToDouble(tape_.TakeGrad(b)), std::vector<double>({1.0, 101.0}));
}

TEST_F(TapeTest, SumsOfAnotherShapeAreRefused) {
  const int slot = tape_.NewSlot();
  tape_.AddGrad(cx_, slot, Filled({2, 3}, 1.0));
  EXPECT_THROW(tape_.AddGrad(cx_, slot, Filled({3, 2}, 1.0)), Error);
}

TEST_F(TapeTest, RowsIntoAnEmptySlot) {
  for (int64_t first = 0; first <= 2; ++first) {
    const int slot = tape_.NewSlot();
    tape_.AddGradRows(cx_, slot, {4, 2}, first, Filled({2, 2}, 1.0));
    std::vector<double> expected(8, 0.0);
    std::fill_n(expected.begin() + first * 2, 4, 1.0);
    EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), expected) << "first row " << first;
  }
}

TEST_F(TapeTest, AllRowsAreAdoptedAndAdded) {
  const int slot = tape_.NewSlot();
  const Tensor grad = Filled({2, 2}, 1.0);
  tape_.AddGradRows(cx_, slot, {2, 2}, 0, grad);
  tape_.AddGradRows(cx_, slot, {2, 2}, 0, grad);
  EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), std::vector<double>(4, 2.0));
  EXPECT_EQ(ToDouble(grad), std::vector<double>(4, 1.0));
}

TEST_F(TapeTest, RowsAreAddedToASum) {
  const int slot = tape_.NewSlot();
  tape_.AddGrad(cx_, slot, Filled({3}, 1.0));
  tape_.AddGradRows(cx_, slot, {3}, 1, Filled({1}, 2.0));
  tape_.AddGradRows(cx_, slot, {3}, 1, Filled({2}, 4.0));
  tape_.AddGradRows(cx_, slot, {3}, 0, Filled({3}, 8.0));
  EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), std::vector<double>({9.0, 15.0, 13.0}));
}

TEST_F(TapeTest, NoRowsLeaveZeros) {
  const int slot = tape_.NewSlot();
  tape_.AddGradRows(cx_, slot, {3}, 3, Filled({0}, 1.0));
  EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), std::vector<double>({0.0, 0.0, 0.0}));
}

TEST_F(TapeTest, RowsAreAddedToACopyOfASharedSum) {
  const int slot = tape_.NewSlot();
  const Tensor shared = Filled({3}, 1.0);
  tape_.AddGrad(cx_, slot, shared);
  tape_.AddGradRows(cx_, slot, {3}, 1, Filled({1}, 2.0));
  EXPECT_EQ(ToDouble(tape_.TakeGrad(slot)), std::vector<double>({1.0, 3.0, 1.0}));
  EXPECT_EQ(ToDouble(shared), std::vector<double>(3, 1.0));
}

TEST_F(TapeTest, BackwardWalksFromTheEnd) {
  std::vector<int> order;
  for (int i = 0; i < 3; ++i) {
    tape_.Record(std::make_unique<TestNode>([&order, i](const ExecContext&) { order.push_back(i); }));
  }
  tape_.Backward(cx_, NewLeaf({1}), Filled({1}, 1.0));
  EXPECT_EQ(order, std::vector<int>({2, 1, 0}));
  EXPECT_EQ(tape_.size(), 0U);
}

TEST_F(TapeTest, NodesDieBeforeTheirPredecessorsRun) {
  std::vector<int64_t> used;
  const Var root = NewLeaf({1});
  const int64_t before = allocator_.use().current;
  for (int i = 0; i < 3; ++i) {
    tape_.Record(std::make_unique<TestNode>([&](const ExecContext&) { used.push_back(allocator_.use().current); },
                                            Filled({1}, 0.0)));
  }
  tape_.Backward(cx_, root, Tensor());
  EXPECT_EQ(used, std::vector<int64_t>({before + 3 * kBlock, before + 2 * kBlock, before + kBlock}));
  EXPECT_EQ(allocator_.use().current, before);
}

TEST_F(TapeTest, LeavesKeepTheirSumsUntilClear) {
  const int64_t before = allocator_.use().current;
  const int slot = NewLeaf({1}).slot;
  tape_.AddGrad(cx_, slot, Filled({1}, 1.0));
  EXPECT_EQ(allocator_.use().current, before + kBlock);
  tape_.Clear();
  EXPECT_EQ(allocator_.use().current, before);
}

TEST_F(TapeTest, ClearDropsNodesFromTheEnd) {
  struct Dropped {
    std::vector<int>* order;
    int i;

    Dropped(std::vector<int>* list, int number) : order(list), i(number) {}

    Dropped(const Dropped& other) = default;

    ~Dropped() { order->push_back(i); }
  };

  std::vector<int> order;
  for (int i = 0; i < 3; ++i) {
    const auto token = std::make_shared<Dropped>(&order, i);
    tape_.Record(std::make_unique<TestNode>([token](const ExecContext&) {}));
  }
  tape_.Clear();
  EXPECT_EQ(order, std::vector<int>({2, 1, 0}));
}

TEST_F(TapeTest, BackwardNeedsTheTapeOfItsContext) {
  Tape other;
  EXPECT_THROW(other.Backward(cx_, Var{}, Tensor()), Error);
}

TEST_F(TapeTest, WithoutATapeThereAreNoSlots) {
  ExecContext cx = cx_;
  cx.tape = nullptr;
  EXPECT_EQ(Leaf(cx, Filled({1}, 0.0), Placements::Rows()).slot, -1);
  EXPECT_EQ(Result(cx, Filled({1}, 0.0), Placements::Rows()).slot, -1);
}

}  // namespace
}  // namespace ksa
