#include "data/sampling/sample_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/sampling/permutation.h"
#include "kernels/core/error.h"
#include "kernels/core/philox.h"

namespace ksa {
namespace {

// The key of one permutation: stream 0 orders the slots of block `counter`, stream 1 + s the epoch `counter` of source
// s.
uint64_t PermutationKey(uint64_t seed, int64_t counter, int64_t stream) {
  const std::array<uint32_t, 4> bits = Philox4x32(seed, static_cast<uint64_t>(counter), static_cast<uint64_t>(stream));
  return (uint64_t{bits[1]} << 32U) | bits[0];
}

}  // namespace

std::vector<int> BlendShares(std::span<const SourceShape> sources) {
  double sum = 0;
  for (const SourceShape& source : sources) {
    if (!std::isfinite(source.weight) || source.weight <= 0) {
      Fail(ExitCode::kConfig, "data.train: source '{}' has weight {}; it must be positive", source.name, source.weight);
    }
    sum += source.weight;
  }
  std::vector<int> shares;
  std::vector<double> remainders;
  for (const SourceShape& source : sources) {
    const double exact = source.weight / sum * static_cast<double>(kBlendSlots);
    shares.push_back(static_cast<int>(std::floor(exact)));
    remainders.push_back(exact - std::floor(exact));
  }
  std::vector<size_t> order(sources.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  const int64_t missing = kBlendSlots - std::accumulate(shares.begin(), shares.end(), int64_t{0});
  for (int64_t i = 0; i < missing; ++i) {
    ++shares[order[static_cast<size_t>(i) % order.size()]];
  }
  for (size_t s = 0; s < sources.size(); ++s) {
    if (shares[s] == 0) {
      Fail(ExitCode::kConfig,
           "data.train: the weight {} of source '{}' rounds to 0 of {} samples; raise it or leave the source out",
           sources[s].weight,
           sources[s].name,
           kBlendSlots);
    }
  }
  return shares;
}

int64_t SamplesOfShard(int64_t tokens, int64_t sequence_length) {
  return tokens < 1 ? 0 : (tokens - 1) / sequence_length;
}

SampleOrder::SampleOrder(uint64_t seed, std::span<const SourceShape> sources)
    : seed_(seed), shares_(BlendShares(sources)), share_begin_{0} {
  for (size_t s = 0; s < sources.size(); ++s) {
    share_begin_.push_back(share_begin_.back() + shares_[s]);
    std::vector<int64_t> begin = {0};
    for (const int64_t samples : sources[s].shard_samples) {
      begin.push_back(begin.back() + samples);
    }
    if (begin.back() == 0) {
      Fail(ExitCode::kBadData, "source '{}' holds no sample of the sequence length", sources[s].name);
    }
    shard_begin_.push_back(std::move(begin));
  }
}

SampleLocation SampleOrder::At(int64_t i) const {
  KSA_CHECK(i >= 0 && !shares_.empty(), "sample {} of a run with {} sources", i, shares_.size());
  const int64_t block = i / kBlendSlots;
  const int64_t slot = Permute(PermutationKey(seed_, block, 0), kBlendSlots, i % kBlendSlots);
  const auto above = std::upper_bound(share_begin_.begin(), share_begin_.end(), slot);
  const auto source = static_cast<size_t>(above - share_begin_.begin() - 1);
  const int64_t number = block * shares_[source] + slot - share_begin_[source];
  const int64_t n = shard_begin_[source].back();
  if (n == kEndless) {
    return Plain(static_cast<int32_t>(source), number);
  }
  const int64_t epoch = number / n;
  const uint64_t key = PermutationKey(seed_, epoch, 1 + static_cast<int64_t>(source));
  SampleLocation location = Plain(static_cast<int32_t>(source), Permute(key, n, number % n));
  location.epoch = epoch;
  return location;
}

SampleLocation SampleOrder::Plain(int32_t source, int64_t index) const {
  const std::vector<int64_t>& begin = shard_begin_[static_cast<size_t>(source)];
  KSA_CHECK(0 <= index && index < begin.back(), "sample {} of a source of {}", index, begin.back());
  // The last shard that begins at or before the index: shards without a sample begin where the next one does.
  const auto shard = std::upper_bound(begin.begin(), begin.end(), index) - begin.begin() - 1;
  return {source, 0, index, shard, index - begin[static_cast<size_t>(shard)]};
}

}  // namespace ksa
