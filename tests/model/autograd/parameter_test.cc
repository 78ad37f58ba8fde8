#include "model/autograd/parameter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "kernels/core/host_allocator.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::ElementAt;
using testing::ToDouble;

std::vector<ParameterSpec> Specs() {
  return {{.name = "embedding", .shape = {7, 5}, .kind = ParameterKind::kEmbedding, .decays = true, .init_std = 0.5},
          {.name = "norm", .shape = {5}, .kind = ParameterKind::kNorm},
          {.name = "matrix", .shape = {30, 5}, .kind = ParameterKind::kMlp, .decays = true, .init_std = 0.02},
          {.name = "scalar", .shape = {1}, .kind = ParameterKind::kNorm}};
}

TEST(ParameterStoreTest, ParametersLieInTheFlatBuffers) {
  testing::GuardAllocator allocator;
  ParameterStore store(Specs(), DType::kBF16, allocator);
  EXPECT_EQ(store.element_count(), 35 + 5 + 150 + 1);
  EXPECT_EQ(store.state_dtype(), DType::kF32);
  std::map<int64_t, int64_t> places;  // first element -> the one after the last
  for (const Parameter& parameter : store.parameters()) {
    places[parameter.offset] = parameter.offset + parameter.spec.shape.size();
    EXPECT_EQ(parameter.value.dtype, DType::kBF16);
    EXPECT_EQ(parameter.grad.dtype, DType::kF32);
    EXPECT_EQ(parameter.value.shape, parameter.spec.shape);
    EXPECT_EQ(parameter.value.data, store.weights().As<BFloat16>() + parameter.offset);
    EXPECT_EQ(parameter.grad.data, store.grads().As<float>() + parameter.offset);
  }
  EXPECT_EQ(places.size(), store.parameters().size());
  int64_t end = 0;
  for (const auto& [first, last] : places) {
    EXPECT_GE(first, end) << "overlaps its neighbour";
    end = last;
  }
  EXPECT_LE(end, store.padded_size());
}

TEST(ParameterStoreTest, WeightsAloneTakeNoOtherMemory) {
  for (const DType dtype : testing::kFloatingTypes) {
    HostAllocator allocator;
    ParameterStore whole(Specs(), dtype, allocator);
    whole.Initialize(99, {});
    const int64_t before = allocator.use().current;
    ParameterStore alone(Specs(), dtype, allocator, {.weights_alone = true});
    EXPECT_GE(allocator.use().current - before, alone.weights().bytes());
    EXPECT_LE(allocator.use().current - before, RoundUpAllocation(alone.weights().bytes()));
    alone.Initialize(99, {});
    EXPECT_FALSE(alone.has_separate_master());
    for (size_t i = 0; i < whole.parameters().size(); ++i) {
      EXPECT_EQ(ToDouble(alone.parameters()[i].value), ToDouble(whole.parameters()[i].value));
      EXPECT_TRUE(alone.parameters()[i].grad.empty());
    }
  }
}

TEST(ParameterStoreTest, FindsByName) {
  testing::GuardAllocator allocator;
  ParameterStore store(Specs(), DType::kF32, allocator);
  EXPECT_EQ(store.Get("norm").spec.name, "norm");
  EXPECT_EQ(store.Find("norm"), &store.Get("norm"));
  EXPECT_EQ(store.Find("nor"), nullptr);
  EXPECT_THROW((void)store.Get("nor"), Error);
}

TEST(ParameterStoreTest, InitialValuesArePhiloxOfSeedNameAndElement) {
  for (const DType dtype : testing::kFloatingTypes) {
    testing::GuardAllocator allocator;
    ParameterStore store(Specs(), dtype, allocator);
    store.Initialize(99, {});
    for (const Parameter& parameter : store.parameters()) {
      const uint64_t key = NamedKey(99, parameter.spec.name);
      for (int64_t i = 0; i < parameter.value.size(); ++i) {
        const double drawn = NormalAt(key, static_cast<uint64_t>(i)) * parameter.spec.init_std;
        double expected = parameter.spec.init_std == 0.0 ? 1.0 : drawn;
        if (dtype != DType::kF64) {
          expected = static_cast<float>(expected);
        }
        EXPECT_EQ(ElementAt(store.master(), parameter.offset + i), expected) << parameter.spec.name << " " << i;
        if (dtype == DType::kBF16) {
          expected = static_cast<float>(BFloat16(static_cast<float>(expected)));
        }
        EXPECT_EQ(ElementAt(parameter.value, i), expected) << parameter.spec.name << " " << i;
      }
    }
  }
}

TEST(ParameterStoreTest, InitialValuesOfAnyKind) {
  const ParameterSpec spec = {
      .name = "bias", .shape = {3, 4}, .tensor = Placement::Sharded(1), .initial = [](uint64_t key, uint64_t element) {
        return static_cast<double>(key % 7) + 0.5 * static_cast<double>(element);
      }};
  testing::GuardAllocator allocator;
  ParameterStore part({spec}, DType::kF64, allocator, {.tensor_parts = 2, .tensor_rank = 1});
  part.Initialize(8, {});
  const double drawn = static_cast<double>(NamedKey(8, "bias") % 7);
  const std::vector<double> expected = {1.0, 1.5, 3.0, 3.5, 5.0, 5.5};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(ElementAt(part.parameters().front().value, static_cast<int64_t>(i)), drawn + expected[i]);
  }
}

TEST(ParameterStoreTest, InitialValuesDoNotDependOnTheOtherParameters) {
  testing::GuardAllocator allocator;
  ParameterStore all(Specs(), DType::kF32, allocator);
  ParameterStore one({Specs()[2]}, DType::kF32, allocator);
  all.Initialize(3, {.device = {}, .threads = 2});
  one.Initialize(3, {});
  testing::ExpectSameBits(one.Get("matrix").value, all.Get("matrix").value, "matrix");
  ParameterStore other_seed({Specs()[2]}, DType::kF32, allocator);
  other_seed.Initialize(4, {});
  EXPECT_NE(ToDouble(other_seed.Get("matrix").value), ToDouble(one.Get("matrix").value));
}

TEST(ParameterStoreTest, AnUpdateOverwritesAddsAndZeroes) {
  testing::GuardAllocator allocator;
  ParameterStore store(Specs(), DType::kF32, allocator);
  Parameter& used = store.Get("norm");
  Parameter& unused = store.Get("matrix");
  std::fill_n(unused.grad.As<float>(), unused.grad.size(), std::numeric_limits<float>::quiet_NaN());
  store.BeginUpdate();
  EXPECT_FALSE(used.Accumulate()) << "the first gradient of an update overwrites";
  EXPECT_TRUE(used.Accumulate()) << "the next ones add";
  std::fill_n(used.grad.As<float>(), used.grad.size(), 2.0F);
  store.FinishGradients({});
  EXPECT_EQ(ToDouble(used.grad), std::vector<double>(5, 2.0));
  EXPECT_EQ(ToDouble(unused.grad), std::vector<double>(150, 0.0));
  EXPECT_TRUE(unused.Accumulate()) << "a gradient after that adds to the zeros";
  store.BeginUpdate();
  EXPECT_FALSE(used.Accumulate());
}

// Which of the padded flat elements belong to a parameter.
std::vector<bool> Real(const ParameterStore& store) {
  std::vector<bool> real(static_cast<size_t>(store.padded_size()), false);
  for (const Parameter& parameter : store.parameters()) {
    std::fill_n(real.begin() + parameter.offset, parameter.spec.shape.size(), true);
  }
  return real;
}

TEST(ParameterStoreTest, PaddingIsZero) {
  for (const DType dtype : testing::kFloatingTypes) {
    testing::GuardAllocator allocator;
    ParameterStore store(Specs(), dtype, allocator);
    store.Initialize(1, {});
    store.FinishGradients({});
    const std::vector<bool> real = Real(store);
    for (const TensorView& flat :
         {store.weights(), store.grads(), store.master(), store.exp_avg(), store.exp_avg_sq()}) {
      for (int64_t i = 0; i < flat.size(); ++i) {
        if (!real[static_cast<size_t>(i)]) {
          ASSERT_EQ(ElementAt(flat, i), 0.0) << i;
        }
      }
    }
  }
}

// What is not trained has weights alone, behind everything that is.
TEST(ParameterStoreTest, FrozenParametersHaveNeitherGradientsNorMoments) {
  std::vector<ParameterSpec> specs = Specs();
  specs[0].trained = false;
  specs[3].trained = false;
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int parts : {1, 2, 3}) {
      for (const bool sharded : {false, true}) {
        std::vector<int> writers;
        for (int rank = 0; rank < parts; ++rank) {
          testing::GuardAllocator allocator;
          ParameterStore store(specs,
                               dtype,
                               allocator,
                               {.parts = parts, .rank = rank, .shard_optimizer = sharded, .bucket_elements = 1});
          EXPECT_EQ(store.trained_count(), 155);
          EXPECT_EQ(store.element_count(), 191);
          EXPECT_EQ(store.grads().size(), store.trained_end());
          for (const Parameter& parameter : store.parameters()) {
            const bool trained = parameter.spec.trained;
            EXPECT_EQ(parameter.offset < store.trained_end(), trained) << parameter.spec.name;
            EXPECT_EQ(parameter.grad.empty(), !trained) << parameter.spec.name;
          }
          EXPECT_THROW((void)store.Get("embedding").Accumulate(), Error);
          EXPECT_NO_THROW(store.FinishGradients({}));
          int64_t moments = 0;
          for (const FlatRange& shard : store.shards()) {
            moments += Intersect(shard, {0, store.trained_end()}).size();
            EXPECT_EQ(store.Master(shard).size(), shard.size()) << "masters of everything";
          }
          EXPECT_EQ(store.exp_avg().size(), moments);
          EXPECT_EQ(store.exp_avg_sq().size(), moments);
          writers.resize(static_cast<size_t>(store.padded_size()), 0);
          for (const FlatRange& owned : store.owned()) {
            for (int64_t i = owned.begin; i < owned.end; ++i) {
              ++writers[static_cast<size_t>(i)];
            }
          }
        }
        EXPECT_EQ(std::count(writers.begin(), writers.end(), 1), static_cast<int64_t>(writers.size()))
            << "every element is written into a checkpoint once";
      }
    }
  }
}

TEST(ParameterStoreTest, EveryElementHasOneWriterAndOneUpdater) {
  for (const int parts : {1, 2, 3, 5}) {
    int64_t end = 0;
    for (int rank = 0; rank < parts; ++rank) {
      testing::GuardAllocator allocator;
      const ParameterStore zero(
          Specs(), DType::kBF16, allocator, {.parts = parts, .rank = rank, .shard_optimizer = true});
      EXPECT_EQ(zero.shards().front().begin, end);
      EXPECT_EQ(zero.shards().front().end, zero.owned().front().end);
      end = zero.shards().front().end;
      EXPECT_EQ(zero.shards().front().size() * parts, zero.padded_size()) << "equal parts";
      EXPECT_EQ(zero.master().size(), zero.shards().front().size());
      EXPECT_EQ(zero.exp_avg().size(), zero.shards().front().size());
      EXPECT_EQ(zero.exp_avg_sq().size(), zero.shards().front().size());
      const ParameterStore whole(Specs(), DType::kBF16, allocator, {.parts = parts, .rank = rank});
      EXPECT_EQ(whole.owned().front().begin, zero.owned().front().begin);
      EXPECT_EQ(whole.shards().front().size(), whole.padded_size());
      if (rank == parts - 1) {
        EXPECT_EQ(end, zero.padded_size());
      }
    }
  }
}

TEST(ParameterStoreTest, ShardsOfTheMasterWeightsAreThoseOfTheWhole) {
  for (const DType dtype : testing::kFloatingTypes) {
    testing::GuardAllocator allocator;
    ParameterStore whole(Specs(), dtype, allocator, {.parts = 3, .rank = 0});
    whole.Initialize(5, {});
    for (int rank = 0; rank < 3; ++rank) {
      ParameterStore part(Specs(), dtype, allocator, {.parts = 3, .rank = rank, .shard_optimizer = true});
      part.Initialize(5, {});
      testing::ExpectSameBits(part.master(),
                              whole.master().Rows(part.shards().front().begin, part.shards().front().size()),
                              "master weights");
      testing::ExpectSameBits(part.weights(), whole.weights(), "weights");
    }
  }
}

// Three ranks hold the slices of the whole tensor, whichever of its dimensions is cut; 7 divides nothing.
TEST(ParameterStoreTest, ShardsOfAnyDimensionAreSlices) {
  const Shape shape = {5, 4, 7};
  for (int dim = 0; dim < shape.rank(); ++dim) {
    const ParameterSpec spec = {.name = "cube", .shape = shape, .tensor = Placement::Sharded(dim), .init_std = 0.5};
    testing::GuardAllocator allocator;
    ParameterStore whole({spec}, DType::kF64, allocator);
    whole.Initialize(5, {});
    int64_t begin = 0;
    for (int rank = 0; rank < 3; ++rank) {
      ParameterStore part({spec}, DType::kF64, allocator, {.tensor_parts = 3, .tensor_rank = rank});
      part.Initialize(5, {});
      const Parameter& held = part.parameters().front();
      EXPECT_EQ(held.shard_begin, begin);
      EXPECT_EQ(held.shape, shape.With(dim, held.shape[dim]));
      int64_t i = 0;
      for (int64_t a = 0; a < held.shape[0]; ++a) {
        for (int64_t b = 0; b < held.shape[1]; ++b) {
          for (int64_t c = 0; c < held.shape[2]; ++c, ++i) {
            const int64_t at[] = {a + (dim == 0 ? begin : 0), b + (dim == 1 ? begin : 0), c + (dim == 2 ? begin : 0)};
            const int64_t element = (at[0] * shape[1] + at[1]) * shape[2] + at[2];
            EXPECT_EQ(ElementAt(held.value, i), ElementAt(whole.parameters().front().value, element))
                << dim << ": " << a << " " << b << " " << c;
          }
        }
      }
      begin += held.shape[dim];
    }
    EXPECT_EQ(begin, shape[dim]);
  }
}

TEST(ParameterStoreTest, SetWeightsWritesAParameterAndItsShareOfTheMasters) {
  testing::GuardAllocator allocator;
  const Tensor values = testing::Normal("values", {150}, DType::kF32, allocator);
  ParameterStore whole(Specs(), DType::kBF16, allocator, {.parts = 4, .rank = 0});
  whole.SetWeights(whole.Get("matrix"), values, {});
  testing::ExpectSameBits(whole.master().Rows(whole.Get("matrix").offset, 150), values, "the parameter");
  for (int rank = 0; rank < 4; ++rank) {
    ParameterStore part(Specs(), DType::kBF16, allocator, {.parts = 4, .rank = rank, .shard_optimizer = true});
    part.SetWeights(part.Get("matrix"), values, {});
    testing::ExpectSameBits(
        part.master(), whole.master().Rows(part.shards().front().begin, part.shards().front().size()), "a rank's part");
    testing::ExpectSameBits(part.weights(), whole.weights(), "weights");
  }
}

TEST(ParameterStoreTest, ParametersThatDecayComeFirst) {
  testing::GuardAllocator allocator;
  const ParameterStore store(Specs(), DType::kF32, allocator);
  for (const Parameter& parameter : store.parameters()) {
    EXPECT_EQ(parameter.offset < store.decay_end(), parameter.spec.decays) << parameter.spec.name;
  }
}

}  // namespace
}  // namespace ksa
