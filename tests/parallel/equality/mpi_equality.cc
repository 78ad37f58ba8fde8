// Started by mpirun with four ranks: updates on some meshes of processes against one rank.
#include <gtest/gtest.h>

#include "tests/parallel/equality/training.h"
#include "tests/parallel/mpi_main.h"

namespace ksa::testing {
namespace {

TEST(MpiEquality, MeshesTrainLikeOneRank) {
  ASSERT_EQ(world->size(), 4);
  const MeshShape meshes[] = {{2, 1, 2}, {1, 2, 2}, {2, 2, 1}};
  for (const MeshShape& mesh : meshes) {
    for (const int32_t zero : {0, 1}) {
      const Problem problem = MakeProblem(ModelKind::kAttend, 2 * zero + (mesh.data == 2 ? 1 : 0), mesh.tensor);
      const RunLayout layout = {.mesh = mesh,
                                .sequence_parallel = mesh.tensor > 1 && mesh.data == 1,
                                .zero = zero,
                                .micro_batch = 2,
                                .recompute = Recompute::kBlock,
                                .bucket_elements = 3000};
      SCOPED_TRACE(problem.name + "; " + layout.ToString());
      const RankRun mine = Train(*world, problem, layout);
      std::vector<RankRun> ranks;
      for (const std::string& bytes : world->Gather(Pack(mine))) {
        ranks.push_back(Unpack(bytes, mine));
      }
      if (world->rank() == 0) {
        ExpectWithinBounds(Compare(Whole(ranks), OnOneRank(problem)), problem.precision);
      }
    }
  }
}

}  // namespace
}  // namespace ksa::testing
