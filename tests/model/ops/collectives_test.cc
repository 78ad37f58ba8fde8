// The collectives over the tensor axis: on one rank placements alone, on several the sums and parts they promise.
#include "model/ops/collectives.h"

#include <cmath>

#include "parallel/comm/threads.h"
#include "tests/support/jacobian.h"

namespace ksa {
namespace {

using testing::Input;
using testing::OpTest;
using testing::ToDouble;

constexpr RowCounts kRows = {.text = 5, .summaries = 2};
constexpr int64_t kCols = 3;

TEST(CollectivesTest, OnOneRankChangeThePlacementAlone) {
  const std::unique_ptr<Communicator> world = MakeSelfCommunicator();
  for (const bool parts : {false, true}) {
    OpTest test;
    Tape tape;
    const ProcessMesh mesh(*world, {}, parts);
    ExecContext cx = test.Context(&tape);
    cx.mesh = &mesh;
    const Placement between = parts ? Placement::Sharded(0) : Placement::Replicated();
    EXPECT_EQ(HeldRows(cx, kRows), kRows);
    const Tensor value = test.Constant("x", Input({kRows.total(), kCols})).value;
    const Var whole = Leaf(cx, value, Placements::Rows(between));
    const Var entered = TensorEnter(cx, whole, kRows);
    EXPECT_EQ(entered.placement, Placements::Rows(Placement::Entered()));
    EXPECT_EQ(entered.value.view().data, value.view().data);
    EXPECT_EQ(entered.slot, whole.slot);
    const Var partial = Leaf(cx, value, Placements::Rows(Placement::Partial()));
    const Var reduced = TensorReduce(cx, partial, kRows);
    EXPECT_EQ(reduced.placement, Placements::Rows(between));
    EXPECT_EQ(reduced.value.view().data, value.view().data);
    EXPECT_EQ(reduced.slot, partial.slot);
    EXPECT_EQ(tape.size(), 0U);
  }
}

TEST(CollectivesTest, RefuseOtherRows) {
  OpTest test;
  const RowCounts fewer = {.text = 5, .summaries = 1};
  const Var whole = test.Constant("x", Input({kRows.total(), kCols}));
  EXPECT_THROW((void)TensorEnter(test.Context(), whole, fewer), Error);
  const Var partial = test.Constant("x", Input({kRows.total(), kCols}, Placement::Partial()));
  EXPECT_THROW((void)TensorReduce(test.Context(), partial, fewer), Error);
}

// What a rank computes of `name`, small whole numbers so that sums are exact in every type.
Tensor OfRank(const std::string& name, int rank, int64_t rows, DType dtype, Allocator& allocator) {
  Tensor x = testing::Normal(name + std::to_string(rank), {rows, kCols}, dtype, allocator);
  for (int64_t i = 0; i < x.size(); ++i) {
    testing::SetElement(x, i, std::round(4.0 * testing::ElementAt(x, i)));
  }
  return x;
}

// The rows of a whole matrix that a rank holds between products.
std::vector<double> Held(const std::vector<double>& whole, bool parts, int size, int rank) {
  if (!parts) {
    return whole;
  }
  std::vector<double> held;
  const auto append = [&](int64_t first, const EvenPart& part) {
    held.insert(held.end(), whole.begin() + (first + part.begin) * kCols, whole.begin() + (first + part.end) * kCols);
  };
  append(0, EvenPart(kRows.text, size, rank));
  append(kRows.text, EvenPart(kRows.summaries, size, rank));
  return held;
}

std::vector<double> Total(const std::string& name, int size, DType dtype) {
  testing::GuardAllocator allocator;
  std::vector<double> sum(static_cast<size_t>(kRows.total() * kCols), 0.0);
  for (int rank = 0; rank < size; ++rank) {
    const std::vector<double> part = ToDouble(OfRank(name, rank, kRows.total(), dtype, allocator));
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] += part[i];
    }
  }
  return sum;
}

// A whole matrix, cut; the ranks' gradients of it, summed. 7 ranks: some have no rows at all.
void CheckOn(int size, bool parts, DType dtype) {
  const std::vector<double> sum = Total("partial", size, dtype);
  RunRanks(size, [&](Communicator& world) {
    testing::GuardAllocator allocator;
    const ProcessMesh mesh(world, {.tensor = size}, parts);
    const int rank = world.rank();
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = {}, .allocator = &allocator, .mesh = &mesh};
    const int64_t held_rows = HeldRows(cx, kRows).total();
    const std::vector<double> held = Held(sum, parts, size, rank);
    ASSERT_EQ(held_rows * kCols, static_cast<int64_t>(held.size()));
    const Placement between = parts ? Placement::Sharded(0) : Placement::Replicated();

    const Var partial =
        Leaf(cx, OfRank("partial", rank, kRows.total(), dtype, allocator), Placements::Rows(Placement::Partial()));
    const Var reduced = TensorReduce(cx, partial, kRows);
    EXPECT_EQ(reduced.placement, Placements::Rows(between));
    EXPECT_EQ(ToDouble(reduced.value), held) << "reduce";
    const Var entered = TensorEnter(cx, reduced, kRows);
    EXPECT_EQ(entered.placement, Placements::Rows(Placement::Entered()));
    EXPECT_EQ(ToDouble(entered.value), sum) << "enter";
    EXPECT_EQ(ToDouble(partial.value), ToDouble(OfRank("partial", rank, kRows.total(), dtype, allocator)))
        << "the input stays what it was";

    // Back through both: the sum of all ranks' gradients, whole.
    tape.Backward(cx, entered, OfRank("partial", rank, kRows.total(), dtype, allocator));
    EXPECT_EQ(ToDouble(tape.TakeGrad(partial.slot)), sum) << "backward";
  });
}

TEST(CollectivesTest, SumAndSpreadRows) {
  for (const int size : {2, 3, 7}) {
    for (const bool parts : {false, true}) {
      for (const DType dtype : testing::kFloatingTypes) {
        SCOPED_TRACE(::testing::Message() << size << " ranks, rows in parts " << parts << ", " << NameOf(dtype));
        CheckOn(size, parts, dtype);
      }
    }
  }
}

}  // namespace
}  // namespace ksa
