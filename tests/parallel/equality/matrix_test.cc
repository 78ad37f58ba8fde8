// The equality matrix: every mesh, ZeRO and kind of model against one rank after five updates. The other switches go
// round over the cells, so that each mesh meets each value of each of them.
#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "tests/parallel/equality/training.h"
#include "trainer/observe/table.h"

namespace ksa::testing {
namespace {

constexpr size_t kCellsOfMesh = 2 * kModelKinds.size();

// The value, 0 to values - 1, that a switch has in a cell of a mesh: each in as many of the mesh's cells as any other.
// The order is random, so that no two switches go together.
int ValueOf(const char* name, size_t mesh, size_t cell, size_t values) {
  const uint64_t key = NamedKey(mesh, name);
  std::vector<size_t> order(kCellsOfMesh);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return Philox4x32(key, a) < Philox4x32(key, b); });
  return static_cast<int>(order[cell] % values);
}

struct Cell {
  ModelKind kind = ModelKind::kKsa;
  Problem problem;
  RunLayout layout;
};

std::vector<Cell> CellsOf(size_t mesh) {
  constexpr int32_t kMicroBatches[] = {1, 2, 8};
  constexpr int64_t kBuckets[] = {1, 700, 3000, INT64_MAX};
  const MeshShape shape = Meshes()[mesh];
  std::vector<Cell> cells;
  for (const ModelKind kind : kModelKinds) {
    for (const int32_t zero : {0, 1}) {
      const size_t n = cells.size();
      const auto value = [&](const char* name, size_t values) { return ValueOf(name, mesh, n, values); };
      Cell cell;
      cell.kind = kind;
      cell.problem = MakeProblem(kind, value("bundle", kBundles), shape.tensor);
      cell.layout = {.mesh = shape,
                     .sequence_parallel = shape.tensor > 1 && value("sequence parallel", 2) == 1,
                     .zero = zero,
                     .micro_batch = kMicroBatches[value("micro-batch", 3)],
                     .recompute = static_cast<Recompute>(value("recompute", 4)),
                     .bucket_elements = kBuckets[value("buckets", 4)]};
      cells.push_back(cell);
    }
  }
  return cells;
}

// What its ranks hold together; nothing where they failed, so that the other cells still run.
WholeRun RunOf(const Cell& cell) {
  try {
    return Whole(TrainOnThreads(cell.problem, cell.layout));
  } catch (const Error& error) {
    ADD_FAILURE() << error.what();
    return {};
  }
}

// Rows: meshes; columns: kinds; in each the worst error of a weight and of a loss.
class MatrixTable {
 public:
  MatrixTable() : table_(Columns()) {}

  void AddMesh(const MeshShape& mesh, const std::vector<Difference>& kinds) {
    std::vector<TableCell> row = {NameOf(mesh)};
    for (const Difference& difference : kinds) {
      row.emplace_back(fmt::format("{:.0e} {:.0e}", difference.weight, difference.loss));
    }
    table_.AddRow(row);
  }

  void Print() const {
    fmt::print(
        "Data x context x tensor ranks against one: worst error of a weight after {} updates, over its tensor's "
        "largest, and of a loss\n{}",
        kUpdates,
        table_.Text());
  }

 private:
  static std::vector<TableColumn> Columns() {
    std::vector<TableColumn> columns = {{.key = "mesh", .head = "mesh"}};
    for (const ModelKind kind : kModelKinds) {
      columns.push_back({.key = NameOf(kind), .head = NameOf(kind)});
    }
    return columns;
  }

  Table table_;
};

TEST(EqualityTest, EveryMeshTrainsLikeOneRank) {
  MatrixTable table;
  Difference worst;
  for (size_t mesh = 0; mesh < Meshes().size(); ++mesh) {
    std::vector<Difference> kinds(kModelKinds.size());
    for (const Cell& cell : CellsOf(mesh)) {
      SCOPED_TRACE(cell.problem.name + "; " + cell.layout.ToString());
      const WholeRun& expected = OnOneRank(cell.problem);
      EXPECT_GT(*std::min_element(expected.norms.begin(), expected.norms.end()), kClip) << "every update is clipped";
      const Difference difference = Compare(RunOf(cell), expected);
      ExpectWithinBounds(difference, cell.problem.precision);
      kinds[static_cast<size_t>(cell.kind)].Add(difference);
      worst.Add(difference);
    }
    table.AddMesh(Meshes()[mesh], kinds);
  }
  table.Print();
  fmt::print("worst of all: {}\n", worst.ToString());
}

// One cell in five, in a narrower type; `check` is given the problem and what its ranks got.
template <typename Check>
void RunIn(DType precision, const Check& check) {
  size_t number = 0;
  for (size_t mesh = 0; mesh < Meshes().size(); ++mesh) {
    for (Cell& cell : CellsOf(mesh)) {
      if (number++ % 5 == 0) {
        SCOPED_TRACE(cell.problem.name + "; " + cell.layout.ToString());
        cell.problem.precision = precision;
        check(cell.problem, RunOf(cell));
      }
    }
  }
}

// The kind of model that a problem is of: names of problems begin with it.
std::string KindOf(const Problem& problem) {
  return problem.name.substr(0, problem.name.find(','));
}

// Near one rank in the same type. Where a kind is ill-conditioned at some problem, so that one rank itself is further
// from fp64 than the bound (Adam turns a gradient that is all roundings into whole steps), as near to fp64 as one rank
// is.
TEST(EqualityTest, SinglePrecisionIsNear) {
  struct Far {
    std::string cell;
    Difference from_one_rank;
    Difference from_exact;
  };

  std::map<std::string, std::vector<Far>> far;
  std::map<std::string, Difference> alone;
  Difference worst;
  RunIn(DType::kF32, [&](Problem problem, const WholeRun& run) {
    const WholeRun& one_rank = OnOneRank(problem);
    const Difference difference = Compare(run, one_rank);
    worst.Add(difference);
    problem.precision = DType::kF64;
    const WholeRun& exact = OnOneRank(problem);
    alone[KindOf(problem)].Add(Compare(one_rank, exact));
    far[KindOf(problem)].push_back({problem.name, difference, Compare(run, exact)});
  });
  for (const auto& [kind, cells] : far) {
    const Difference& bound = alone[kind];
    fmt::print("{}: one rank from fp64: {}\n", kind, bound.ToString());
    for (const Far& cell : cells) {
      SCOPED_TRACE(cell.cell);
      if (bound.norm < 1e-5 && bound.loss < 1e-5) {
        ExpectWithinBounds(cell.from_one_rank, DType::kF32);
        continue;
      }
      EXPECT_LE(cell.from_exact.loss, std::max(1e-5, 2.0 * bound.loss));
      EXPECT_LE(cell.from_exact.norm, std::max(1e-5, 4.0 * bound.norm));
      EXPECT_LE(cell.from_exact.weight_l2, std::max(5e-4, 2.0 * bound.weight_l2));
    }
  }
  fmt::print("worst in fp32: {}\n", worst.ToString());
}

// How far a cell in bf16 is from one rank in fp64.
struct FromExact {
  std::string cell;
  Difference on_mesh;
};

// With master weights of their own, which ZeRO divides. As near to fp64 as one rank is: as it is at the worst of all
// problems of the kind, since one problem may round well by luck. The floors are a few roundings of values that one
// rank happens to hit. Where one rank's own error is as large as a gradient is (gdn's convolutions of keys), gradients
// of single tensors and their norm are roundings on any mesh: what is held then is the loss, and the weights.
TEST(EqualityTest, BFloat16IsAsNearAsOneRank) {
  std::map<std::string, std::vector<FromExact>> cells;
  std::map<std::string, Difference> alone;
  RunIn(DType::kBF16, [&](Problem problem, const WholeRun& run) {
    const WholeRun& one_rank = OnOneRank(problem);
    problem.precision = DType::kF64;
    const WholeRun& exact = OnOneRank(problem);
    alone[KindOf(problem)].Add(Compare(one_rank, exact, false));
    cells[KindOf(problem)].push_back({problem.name, Compare(run, exact, false)});
  });
  Difference worst;
  Difference worst_alone;
  for (const auto& [kind, found] : cells) {
    const Difference& bound = alone[kind];
    for (const auto& [cell, difference] : found) {
      SCOPED_TRACE(cell);
      EXPECT_LE(difference.loss, std::max(1e-3, 2.0 * bound.loss));
      if (bound.gradient < 1.0) {
        EXPECT_LE(difference.norm, std::max(5e-3, 2.0 * bound.norm));
        EXPECT_LE(difference.gradient, std::max(0.05, 2.0 * bound.gradient)) << difference.worst_gradient;
      }
      EXPECT_LE(difference.weight_l2, std::max(5e-3, 2.0 * bound.weight_l2));
      worst.Add(difference);
    }
    worst_alone.Add(bound);
  }
  fmt::print("worst in bf16, from fp64: {}\none rank: {}\n", worst.ToString(), worst_alone.ToString());
}

}  // namespace
}  // namespace ksa::testing
