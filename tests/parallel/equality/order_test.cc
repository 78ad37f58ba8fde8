// The order in which ranks ask for collectives, over all groups of the mesh: one order for all of them, the same in
// every update and whatever the ranks' threads do meanwhile. GPUs run their groups' collectives in this order.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/comm/threads.h"
#include "tests/parallel/equality/training.h"
#include "tests/support/recorded_group.h"

namespace ksa::testing {
namespace {

using Calls = std::vector<std::vector<QueuedCall>>;  // of every rank

// Two updates. `delays`: ranks wait now and then, each at other calls.
Calls CallsOf(const Problem& problem, const RunLayout& layout, bool delays) {
  Calls calls(static_cast<size_t>(layout.mesh.size()));
  RunRanks(static_cast<int>(layout.mesh.size()), [&](Communicator& world) {
    std::vector<QueuedCall>& own = calls[static_cast<size_t>(world.rank())];
    const auto before = [&own, delays, rank = static_cast<size_t>(world.rank())] {
      if (delays && (7 * own.size() + 3 * rank) % 11 == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    };
    Rank rank(world, problem, layout, RecordInto(own, world.rank(), before));
    rank.state.store.Initialize(7, rank.runtime.stream());
    for (int64_t update = 1; update <= 2; ++update) {
      rank.state.updater.Run(rank.Samples(update), update, kLearningRate);
    }
    const auto half = own.begin() + static_cast<std::ptrdiff_t>(own.size() / 2);
    EXPECT_TRUE(own.size() % 2 == 0 && std::equal(own.begin(), half, half, own.end()))
        << "rank " << world.rank() << " asks for something else in its second update";
  });
  return calls;
}

std::set<std::string> GroupsOf(const Calls& calls) {
  std::set<std::string> groups;
  for (const std::vector<QueuedCall>& rank : calls) {
    for (const QueuedCall& call : rank) {
      groups.insert(call.group);
    }
  }
  return groups;
}

constexpr MeshShape kMeshes[] = {{.data = 2, .context = 2, .tensor = 1},
                                 {.data = 2, .context = 1, .tensor = 2},
                                 {.data = 1, .context = 2, .tensor = 2},
                                 {.data = 2, .context = 2, .tensor = 2},
                                 {.data = 1, .context = 4, .tensor = 2}};

TEST(OrderTest, EveryMeshWithTwoAxesHasOneOrder) {
  for (const MeshShape& mesh : kMeshes) {
    for (const ModelKind kind : {ModelKind::kAttend, ModelKind::kFull, ModelKind::kKsa}) {
      for (const int32_t zero : {0, 1}) {
        const RunLayout layout = {.mesh = mesh,
                                  .sequence_parallel = mesh.tensor > 1 && zero == 1,
                                  .zero = zero,
                                  .micro_batch = 2,
                                  .recompute = kind == ModelKind::kAttend ? Recompute::kBlock : Recompute::kNone,
                                  .bucket_elements = 700};
        SCOPED_TRACE(layout.ToString() + ", " + NameOf(kind));
        const Problem problem = MakeProblem(kind, 1, mesh.tensor);
        const Calls calls = CallsOf(problem, layout, false);
        EXPECT_GE(GroupsOf(calls).size(), 2U) << "one group alone shows nothing";
        EXPECT_EQ(WhyNotOneOrder(calls), "");
        EXPECT_TRUE(CallsOf(problem, layout, true) == calls) << "the order depends on time";
      }
    }
  }
}

}  // namespace
}  // namespace ksa::testing
