#include "trainer/optim/gradient_reducer.h"

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/threads.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::ToDouble;

// An embedding, two layers and a head; a bucket each, when buckets are tiny.
std::vector<ParameterSpec> Specs() {
  return {{.name = "embedding", .shape = {9, 5}, .decays = true},
          {.name = "first", .shape = {7, 5}, .decays = true, .first_layer = 0},
          {.name = "second", .shape = {5, 5}, .decays = true, .first_layer = 1},
          {.name = "unused", .shape = {3, 5}, .decays = true, .first_layer = 1},
          {.name = "head", .shape = {9, 5}, .decays = true, .first_layer = 2}};
}

constexpr int64_t kTinyBucket = 1;

// One rank's reducer, and gradients that tell rank and element.
struct Rank {
  Rank(Communicator& world, bool zero)
      : mesh(world, {.data = world.size()}),
        store(Specs(),
              DType::kF32,
              allocator,
              {.parts = world.size(), .rank = world.rank(), .shard_optimizer = zero, .bucket_elements = kTinyBucket}),
        stalls(world.size() > 1),
        reducer(store, mesh, stalls) {
    std::fill_n(store.Get("unused").grad.As<float>(), 15, std::numeric_limits<float>::quiet_NaN());
    store.BeginUpdate();
    reducer.Begin();
  }

  void Write(const std::string& name) {
    Parameter& parameter = store.Get(name);
    const bool accumulate = parameter.Accumulate();
    for (int64_t i = 0; i < parameter.grad.size(); ++i) {
      float& value = parameter.grad.As<float>()[i];
      value = (accumulate ? value : 0.0F) + static_cast<float>((mesh.world().rank() + 1) * (i + 1));
    }
  }

  [[nodiscard]] int64_t Calls(CollectiveKind kind) const {
    return mesh.state_group().counts()[static_cast<size_t>(kind)].calls;
  }

  testing::GuardAllocator allocator;
  ProcessMesh mesh;
  ParameterStore store;
  StallTimer stalls;
  GradientReducer reducer;
};

TEST(GradientReducerTest, BucketsStartWhenTheirParametersAreComplete) {
  RunRanks(2, [](Communicator& world) {
    Rank rank(world, false);
    rank.Write("head");
    rank.reducer.OnGradients(2, {});
    EXPECT_EQ(rank.Calls(CollectiveKind::kAllReduce), 1);
    rank.Write("second");
    rank.reducer.OnGradients(1, {});
    EXPECT_EQ(rank.Calls(CollectiveKind::kAllReduce), 3) << "second, and what nothing wrote";
    rank.reducer.OnGradients(1, {});
    EXPECT_EQ(rank.Calls(CollectiveKind::kAllReduce), 3) << "once";
    rank.Write("first");
    rank.reducer.OnGradients(0, {});
    EXPECT_EQ(rank.Calls(CollectiveKind::kAllReduce), 4);
    rank.Write("embedding");
    rank.reducer.Finish({});
    EXPECT_EQ(rank.Calls(CollectiveKind::kAllReduce), 5);
    for (const Parameter& parameter : rank.store.parameters()) {
      const float factor = parameter.spec.name == "unused" ? 0.0F : 3.0F;
      for (int64_t i = 0; i < parameter.grad.size(); ++i) {
        ASSERT_EQ(parameter.grad.As<float>()[i], factor * static_cast<float>(i + 1)) << parameter.spec.name << " " << i;
      }
    }
  });
}

TEST(GradientReducerTest, SumsHaveTheSameBitsWithoutProgress) {
  for (const bool zero : {false, true}) {
    RunRanks(3, [&](Communicator& world) {
      Rank told(world, zero);
      Rank quiet(world, zero);
      for (Rank* rank : {&told, &quiet}) {
        for (const char* name : {"head", "second", "first", "embedding"}) {
          rank->Write(name);
          if (rank == &told) {
            rank->reducer.OnGradients(rank->store.Get(name).spec.first_layer, {});
          }
        }
        rank->reducer.Finish({});
      }
      for (const FlatRange& range : told.store.owned()) {
        EXPECT_EQ(ToDouble(told.store.grads().Rows(range.begin, range.size())),
                  ToDouble(quiet.store.grads().Rows(range.begin, range.size())));
      }
      EXPECT_EQ(told.Calls(CollectiveKind::kReduceScatter), zero ? 5 : 0);
      EXPECT_EQ(quiet.Calls(CollectiveKind::kReduceScatter), zero ? 5 : 0);
      EXPECT_GT(told.stalls.Take(), 0.0);
      EXPECT_EQ(told.stalls.Take(), 0.0);
    });
  }
}

TEST(GradientReducerTest, AGradientAfterItsBucketStartedIsAnError) {
  RunRanks(2, [](Communicator& world) {
    Rank rank(world, true);
    rank.Write("second");
    rank.reducer.OnGradients(1, {});
    rank.Write("first");  // may still come
    for (const char* name : {"second", "unused"}) {
      try {
        rank.Write(name);
        ADD_FAILURE() << name << " was written";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kInternal);
        EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      }
    }
    rank.reducer.Finish({});
    rank.store.BeginUpdate();
    rank.reducer.Begin();
    rank.Write("second");
  });
}

}  // namespace
}  // namespace ksa
