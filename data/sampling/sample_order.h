// Which sample of which source is sample i of a run: a pure function of the seed and i (docs/data.md, "Sample order").
//
// The sources' weights are rounded to integers that sum to 1024. Every block of 1024 consecutive samples holds exactly
// that many of each source, in an order drawn for the block; each source's own samples are drawn without repetition
// epoch by epoch. Nothing is stored and every call costs the same, at any i.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ksa {

inline constexpr int64_t kBlendSlots = 1024;

// Samples of a source that makes them: it has no epochs, and its running number is its sample's.
inline constexpr int64_t kEndless = int64_t{1} << 62;

// A source, described by sizes alone.
struct SourceShape {
  std::string name;
  double weight = 1;
  std::vector<int64_t> shard_samples;  // samples of each shard, in the folder's order; of a task one: kEndless
};

// Sample `index` of `source` is sample `shard_sample` of its shard `shard`.
struct SampleLocation {
  int32_t source = 0;
  int64_t epoch = 0;  // how often the source's samples had all been used before
  int64_t index = 0;  // in [0, N)
  int64_t shard = 0;
  int64_t shard_sample = 0;
};

// Integers that sum to 1024, in proportion to the weights: rounded down, the rest by largest remainder, ties to the
// earlier source. Error kConfig when a weight is not a positive number or rounds to 0.
[[nodiscard]] std::vector<int> BlendShares(std::span<const SourceShape> sources);

// Number of samples of T tokens (and one more as the last target) in a shard of n tokens: floor((n-1) / T).
[[nodiscard]] int64_t SamplesOfShard(int64_t tokens, int64_t sequence_length);

class SampleOrder {
 public:
  // Error kConfig: as BlendShares; kBadData: a source without samples.
  SampleOrder(uint64_t seed, std::span<const SourceShape> sources);

  [[nodiscard]] SampleLocation At(int64_t i) const;

  // Where sample `index` of a source's plain order lies.
  [[nodiscard]] SampleLocation Plain(int32_t source, int64_t index) const;

  [[nodiscard]] const std::vector<int>& shares() const { return shares_; }

  [[nodiscard]] int64_t samples(int32_t source) const { return shard_begin_[static_cast<size_t>(source)].back(); }

 private:
  uint64_t seed_;
  std::vector<int> shares_;
  std::vector<int64_t> share_begin_;               // running sum of the shares, [sources + 1]
  std::vector<std::vector<int64_t>> shard_begin_;  // per source, running sum of its shards' samples, [shards + 1]
};

}  // namespace ksa
