// Random models, texts and layouts against one rank, and resumed on another layout. KSA_RANDOM_CASES="FIRST COUNT" runs
// these seeds instead.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/parallel/equality/random_problem.h"
#include "tests/parallel/equality/training.h"
#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {
namespace {

TEST(EqualityRandomTest, AnyMeshTrainsLikeOneRank) {
  const Seeds seeds = SeedsToRun(40);
  Difference worst;
  Difference worst_resumed;
  for (uint64_t seed = seeds.first; seed < seeds.first + seeds.count; ++seed) {
    const RandomCase random = MakeRandomCase(seed);
    SCOPED_TRACE(Describe(random));
    try {
      const WholeRun expected = Whole(TrainOnThreads(random.problem, {}));
      const Difference difference = Compare(Whole(TrainOnThreads(random.problem, random.layout)), expected);
      ExpectWithinBounds(difference, random.problem.precision);
      worst.Add(difference);
      const ScratchFolder scratch;
      (void)TrainOnThreads(random.problem, random.layout, {scratch.path(), 2, false});
      const Difference resumed =
          Compare(Whole(TrainOnThreads(random.problem, random.other, {scratch.path(), 2, true})), Later(expected, 3));
      ExpectWithinBounds(resumed, random.problem.precision);
      worst_resumed.Add(resumed);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }
  fmt::print("worst of {} random cases: {}\nresumed on another mesh: {}\n",
             seeds.count,
             worst.ToString(),
             worst_resumed.ToString());
}

}  // namespace
}  // namespace ksa::testing
