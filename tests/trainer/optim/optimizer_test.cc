#include "trainer/optim/optimizer.h"

#include <memory>
#include <vector>

#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::ElementAt;
using testing::ToDouble;

// A rank alone with the second half of the state: nobody sends it the other half's weights.
TEST(Optimizer, RewritesTheWeightsOfItsShardFromTheMasters) {
  testing::GuardAllocator allocator;
  const std::vector<ParameterSpec> specs = {{.name = "matrix", .shape = {30, 5}, .decays = true, .init_std = 0.5},
                                            {.name = "norm", .shape = {5}}};
  ParameterStore store(specs, DType::kBF16, allocator, {.parts = 2, .rank = 1, .shard_optimizer = true});
  store.Initialize(5, {});
  const std::vector<double> weights = ToDouble(store.weights());
  const std::vector<double> masters = ToDouble(store.master());
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  const ProcessMesh mesh(*self, {});
  Optimizer optimizer({}, store, mesh, allocator, {});
  optimizer.BeginUpdate({});
  for (Parameter& parameter : store.parameters()) {
    static_cast<void>(parameter.Accumulate());
    for (int64_t i = 0; i < parameter.grad.size(); ++i) {
      parameter.grad.As<float>()[i] = 1.0F + static_cast<float>(i);
    }
  }
  ASSERT_TRUE(optimizer.Step(0.01, 1, {}).applied);
  const int64_t begin = store.shards().front().begin;
  int64_t changed = 0;
  for (int64_t i = 0; i < store.padded_size(); ++i) {
    if (i < begin) {
      ASSERT_EQ(ElementAt(store.weights(), i), weights[static_cast<size_t>(i)]) << i;
      continue;
    }
    const float master = store.master().As<float>()[i - begin];
    ASSERT_EQ(ElementAt(store.weights(), i), static_cast<double>(static_cast<float>(BFloat16(master)))) << i;
    changed += static_cast<double>(master) != masters[static_cast<size_t>(i - begin)] ? 1 : 0;
  }
  EXPECT_GT(changed, 0);
}

}  // namespace
}  // namespace ksa
