#include "data/sampling/sample_order.h"

#include <chrono>
#include <set>

#include <gtest/gtest.h>

#include "data/sampling/permutation.h"
#include "kernels/core/philox.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

// --- the permutation

TEST(Permute, IsAPermutationOfEverySmallSize) {
  for (int64_t n = 1; n <= 300; ++n) {
    std::vector<bool> seen(static_cast<size_t>(n));
    for (int64_t x = 0; x < n; ++x) {
      const int64_t y = Permute(99, n, x);
      ASSERT_TRUE(0 <= y && y < n);
      ASSERT_FALSE(seen[static_cast<size_t>(y)]) << "size " << n;
      seen[static_cast<size_t>(y)] = true;
    }
  }
}

TEST(Permute, IsAPermutationOfLargerSizes) {
  for (const int64_t n : {1023, 1024, 1025, 4096, 65537, 100003}) {
    std::set<int64_t> seen;
    for (int64_t x = 0; x < n; ++x) {
      seen.insert(Permute(7, n, x));
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), n);
    EXPECT_EQ(*seen.rbegin(), n - 1);
  }
}

TEST(Permute, DependsOnTheKeyAndRefusesWhatIsOutside) {
  int64_t equal = 0;
  for (int64_t x = 0; x < 1000; ++x) {
    equal += Permute(1, 1000, x) == Permute(2, 1000, x) ? 1 : 0;
  }
  EXPECT_LT(equal, 10);  // 1 expected of two random permutations
  EXPECT_KSA_ERROR(Permute(1, 10, 10), ExitCode::kInternal, "permutation");
  EXPECT_LT(Permute(1, int64_t{1} << 62, 5), int64_t{1} << 62);
}

// Where x lands, counted over many keys, is even.
TEST(Permute, IsEven) {
  constexpr int kSize = 10;
  constexpr int kKeys = 20000;
  std::vector<int> counts(kSize);
  for (uint64_t key = 0; key < kKeys; ++key) {
    ++counts[static_cast<size_t>(Permute(key, kSize, 3))];
  }
  double chi = 0;
  for (const int count : counts) {
    chi += (count - kKeys / kSize) * (count - kKeys / kSize) / static_cast<double>(kKeys / kSize);
  }
  EXPECT_LT(chi, 33.7);  // chi-square, 9 degrees of freedom: exceeded with probability 1e-4
}

// --- the shares

std::vector<SourceShape> Sources(const std::vector<double>& weights) {
  std::vector<SourceShape> sources;
  for (const double weight : weights) {
    sources.push_back({fmt::format("s{}", sources.size()), weight, {10}});
  }
  return sources;
}

TEST(BlendShares, SumTo1024ByLargestRemainder) {
  EXPECT_EQ(BlendShares(Sources({1})), std::vector<int>({1024}));
  EXPECT_EQ(BlendShares(Sources({1, 1, 1})), std::vector<int>({342, 341, 341}));  // a tie goes to the earlier
  EXPECT_EQ(BlendShares(Sources({0.7, 0.2, 0.1})), std::vector<int>({717, 205, 102}));
  EXPECT_EQ(BlendShares(Sources({3, 5})), std::vector<int>({384, 640}));
}

TEST(BlendShares, RefusesWeightsThatAreNone) {
  EXPECT_KSA_ERROR(BlendShares(Sources({1, 0})), ExitCode::kConfig, "s1");
  EXPECT_KSA_ERROR(BlendShares(Sources({1, -1})), ExitCode::kConfig, "s1");
  EXPECT_KSA_ERROR(BlendShares(Sources({1, 1e-5})), ExitCode::kConfig, "rounds to 0");
}

// --- the order

TEST(SampleOrder, CountsTheSamplesOfAShard) {
  EXPECT_EQ(SamplesOfShard(0, 4), 0);
  EXPECT_EQ(SamplesOfShard(4, 4), 0);
  EXPECT_EQ(SamplesOfShard(5, 4), 1);
  EXPECT_EQ(SamplesOfShard(8, 4), 1);
  EXPECT_EQ(SamplesOfShard(9, 4), 2);
}

// The contract, word by word, with the permutations drawn up as tables.
class Oracle {
 public:
  Oracle(uint64_t seed, std::vector<int> shares, std::vector<std::vector<int64_t>> shards)
      : seed_(seed), shares_(std::move(shares)), shards_(std::move(shards)) {}

  SampleLocation At(int64_t i) const {
    const int64_t q = i / 1024;
    const int64_t r = Table(q, 0, 1024)[static_cast<size_t>(i % 1024)];
    int64_t a_begin = 0;
    for (size_t s = 0; s < shares_.size(); a_begin += shares_[s], ++s) {
      if (r < a_begin || r >= a_begin + shares_[s]) {
        continue;
      }
      std::vector<std::pair<int64_t, int64_t>> all;  // (shard, sample) in plain order
      for (size_t shard = 0; shard < shards_[s].size(); ++shard) {
        for (int64_t j = 0; j < shards_[s][shard]; ++j) {
          all.emplace_back(shard, j);
        }
      }
      const auto n = static_cast<int64_t>(all.size());
      const int64_t number = q * shares_[s] + r - a_begin;
      const int64_t index = Table(number / n, 1 + s, n)[static_cast<size_t>(number % n)];
      const auto [shard, sample] = all[static_cast<size_t>(index)];
      return {static_cast<int32_t>(s), number / n, index, shard, sample};
    }
    return {-1, 0, 0, 0, 0};
  }

 private:
  // F under the key of (seed, counter, stream), for every argument below n.
  std::vector<int64_t> Table(int64_t counter, uint64_t stream, int64_t n) const {
    const auto bits = Philox4x32(seed_, static_cast<uint64_t>(counter), stream);
    const uint64_t key = bits[0] + (uint64_t{bits[1]} << 32U);
    std::vector<int64_t> table;
    for (int64_t x = 0; x < n; ++x) {
      table.push_back(Permute(key, n, x));
    }
    return table;
  }

  uint64_t seed_;
  std::vector<int> shares_;
  std::vector<std::vector<int64_t>> shards_;
};

TEST(SampleOrder, IsTheContractsFunction) {
  const std::vector<std::vector<int64_t>> shards = {{3, 0, 4}, {1}, {0, 50}};
  std::vector<SourceShape> sources;
  const std::vector<double> weights = {5, 1, 2};
  for (size_t s = 0; s < shards.size(); ++s) {
    sources.push_back({"s", weights[s], shards[s]});
  }
  const SampleOrder order(1234, sources);
  const Oracle oracle(1234, {640, 128, 256}, shards);
  for (int64_t i = 0; i < 3000; i += 7) {
    const SampleLocation expected = oracle.At(i);
    const SampleLocation got = order.At(i);
    ASSERT_EQ(got.source, expected.source);
    ASSERT_EQ(got.epoch, expected.epoch);
    ASSERT_EQ(got.index, expected.index);
    ASSERT_EQ(got.shard, expected.shard);
    ASSERT_EQ(got.shard_sample, expected.shard_sample);
  }
}

TEST(SampleOrder, BlendsExactlyAndUsesEverySampleOnceAnEpoch) {
  std::vector<SourceShape> sources = {{"a", 3, {100, 37}}, {"b", 1, {64}}};
  const SampleOrder order(5, sources);
  std::vector<std::vector<int>> used = {std::vector<int>(137), std::vector<int>(64)};
  for (int64_t block = 0; block < 4; ++block) {
    std::vector<int> counts(2);
    for (int64_t p = 0; p < 1024; ++p) {
      const SampleLocation at = order.At(block * 1024 + p);
      ++counts[static_cast<size_t>(at.source)];
      ++used[static_cast<size_t>(at.source)][static_cast<size_t>(at.index)];
    }
    EXPECT_EQ(counts, std::vector<int>({768, 256}));
  }
  for (const int times : used[1]) {
    EXPECT_EQ(times, 4 * 256 / 64);
  }
  for (const int times : used[0]) {
    EXPECT_TRUE(times == 4 * 768 / 137 || times == 4 * 768 / 137 + 1);
  }
}

TEST(SampleOrder, DiffersBetweenSeedsAndEpochs) {
  const std::vector<SourceShape> sources = {{"a", 1, {1024}}};
  const SampleOrder one(1, sources);
  const SampleOrder two(2, sources);
  int same_seed = 0;
  int same_epoch = 0;
  for (int64_t i = 0; i < 1024; ++i) {
    same_seed += one.At(i).index == two.At(i).index ? 1 : 0;
    same_epoch += one.At(i).index == one.At(1024 + i).index ? 1 : 0;
    EXPECT_EQ(one.At(1024 + i).epoch, 1);
  }
  EXPECT_LT(same_seed, 12);  // 1 expected
  EXPECT_LT(same_epoch, 12);
}

TEST(SampleOrder, RefusesASourceWithoutSamples) {
  const std::vector<SourceShape> sources = {{"full", 1, {4}}, {"short", 1, {0, 0}}};
  EXPECT_KSA_ERROR(SampleOrder(1, sources), ExitCode::kBadData, "short");
}

// 10^12 tokens in 1000 shards of three sources, at update 10^6: no table of samples could be built in this time.
TEST(SampleOrder, StartsAnywhereInATrillionTokens) {
  constexpr int64_t kSequence = 8192;
  std::vector<SourceShape> sources;
  for (const double weight : {0.6, 0.3, 0.1}) {
    sources.push_back({"s", weight, std::vector<int64_t>(1000, SamplesOfShard(1'000'000'000'000 / 3000, kSequence))});
  }
  const auto begin = std::chrono::steady_clock::now();
  const SampleOrder order(1234, sources);
  constexpr int64_t kUpdate = 1'000'000;
  constexpr int64_t kBatch = 1024;
  int64_t sum = 0;
  for (int64_t i = 0; i < kBatch; ++i) {
    sum += order.At((kUpdate - 1) * kBatch + i).index;
  }
  const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - begin;
  EXPECT_GT(sum, 0);
  EXPECT_LT(elapsed.count() / kBatch, 1.0) << "milliseconds a sample";
}

}  // namespace
}  // namespace ksa
