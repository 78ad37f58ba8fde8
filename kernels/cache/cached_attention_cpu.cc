// A task takes some keys of one query and one head of keys, for all heads of queries that read it: keys and values are
// read once. Then the parts of a query are added in their order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cache/cache_backends.h"
#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"

namespace ksa::cpu {
namespace {

template <typename T>
class Attending {
 public:
  using A = Accumulator<T>;

  Attending(const CachedAttentionArgs& args, const Stream& stream)
      : args_(args),
        stream_(stream),
        heads_(args.q.shape[1]),
        key_heads_(args.k.shape[1]),
        group_(heads_ / key_heads_),
        e_(args.q.shape[2]),
        c_(args.out.shape[2]),
        parts_(std::max<int64_t>(1, KeyParts(args.most_keys))),
        scale_(static_cast<A>(args.scale > 0.0 ? args.scale : 1.0 / std::sqrt(static_cast<double>(e_)))),
        largest_(static_cast<size_t>(args.q.rows() * heads_ * parts_)),
        sum_(largest_.size()),
        weighted_(largest_.size() * static_cast<size_t>(c_)) {}

  void Run() {
    const int64_t keys = std::min(args_.most_keys, kKeysOfPart);
    ParallelFor(stream_, args_.q.rows() * key_heads_ * parts_, keys * group_ * (e_ + c_), [&](int64_t task) {
      AddPart(task / (key_heads_ * parts_), task / parts_ % key_heads_, task % parts_);
    });
    ParallelFor(stream_, args_.q.rows() * heads_, parts_ * c_, [&](int64_t i) { Merge(i); });
  }

 private:
  // Rows that lie one behind the other, some of those that a query sees.
  struct KeyRun {
    const T* k;
    const T* v;
    int64_t key_pitch;
    int64_t value_pitch;
    int64_t at;  // of the first, among the part's keys
    int64_t rows;
  };

  // visit(run) for the keys [begin, end) of a query.
  template <typename Visit>
  void ForRuns(int64_t query, int64_t key_head, int64_t begin, int64_t end, const Visit& visit) const {
    const int32_t* span = args_.spans.As<int32_t>() + query * kKeySpans * 2;
    int64_t first = 0;
    for (int s = 0; s < kKeySpans; first += span[1], ++s, span += 2) {
      const int64_t from = std::max(begin, first);
      const int64_t to = std::min(end, first + span[1]);
      if (from >= to) {
        continue;
      }
      const bool is_new = s == kKeySpans - 1;
      const TensorView& k = is_new ? args_.new_k : args_.k;
      const TensorView& v = is_new ? args_.new_v : args_.v;
      const int64_t row = (span[0] + from - first) * key_heads_ + key_head;
      const T* key = k.As<T>() + row * e_;
      visit(KeyRun{.k = key,
                   .v = v.empty() ? key : v.As<T>() + row * c_,
                   .key_pitch = key_heads_ * e_,
                   .value_pitch = key_heads_ * (v.empty() ? e_ : c_),
                   .at = from - begin,
                   .rows = to - from});
    }
  }

  [[nodiscard]] int64_t KeysOf(int64_t query) const {
    const int32_t* span = args_.spans.As<int32_t>() + query * kKeySpans * 2;
    int64_t keys = 0;
    for (int s = 0; s < kKeySpans; ++s) {
      keys += span[2 * s + 1];
    }
    return keys;
  }

  void AddPart(int64_t query, int64_t key_head, int64_t part) {
    const int64_t begin = part * kKeysOfPart;
    const int64_t end = std::min(KeysOf(query), begin + kKeysOfPart);
    const int64_t keys = std::max<int64_t>(0, end - begin);
    std::vector<A> q(static_cast<size_t>(group_ * e_));
    std::vector<A> scores(static_cast<size_t>(group_ * keys));
    const T* from = args_.q.As<T>() + (query * heads_ + key_head * group_) * e_;
    std::transform(from, from + group_ * e_, q.begin(), [&](T x) { return scale_ * static_cast<A>(x); });
    ForRuns(query, key_head, begin, end, [&](const KeyRun& run) {
      for (int64_t r = 0; r < run.rows; ++r) {
        const T* key = run.k + r * run.key_pitch;
        for (int64_t head = 0; head < group_; ++head) {
          const A* of = q.data() + head * e_;
          scores[static_cast<size_t>(head * keys + run.at + r)] =
              SumOf<A>(e_, [&](int64_t i) { return of[i] * static_cast<A>(key[i]); });
        }
      }
    });
    for (int64_t head = 0; head < group_; ++head) {
      const auto at = static_cast<size_t>((query * heads_ + key_head * group_ + head) * parts_ + part);
      A* score = scores.data() + head * keys;
      largest_[at] = keys == 0 ? -std::numeric_limits<A>::infinity() : *std::max_element(score, score + keys);
#pragma omp simd
      for (int64_t j = 0; j < keys; ++j) {
        score[j] = Exp(score[j] - largest_[at]);
      }
      sum_[at] = SumOf<A>(keys, [&](int64_t j) { return score[j]; });
    }
    ForRuns(
        query, key_head, begin, end, [&](const KeyRun& run) { AddValues(query, key_head, part, keys, run, scores); });
  }

  void AddValues(
      int64_t query, int64_t key_head, int64_t part, int64_t keys, const KeyRun& run, const std::vector<A>& scores) {
    for (int64_t head = 0; head < group_; ++head) {
      A* sum = weighted_.data() + ((query * heads_ + key_head * group_ + head) * parts_ + part) * c_;
      const A* weight = scores.data() + head * keys + run.at;
      for (int64_t r = 0; r < run.rows; ++r) {
        const T* value = run.v + r * run.value_pitch;
        const A w = weight[r];
#pragma omp simd
        for (int64_t i = 0; i < c_; ++i) {
          sum[i] += w * static_cast<A>(value[i]);
        }
      }
    }
  }

  // `i`: query and head.
  void Merge(int64_t i) {
    const A* largest = largest_.data() + i * parts_;
    const A all = *std::max_element(largest, largest + parts_);
    T* out = args_.out.As<T>() + i * c_;
    if (all == -std::numeric_limits<A>::infinity()) {
      std::fill_n(out, c_, T{});
      return;
    }
    std::vector<A> sum(static_cast<size_t>(c_));
    A total{};
    for (int64_t p = 0; p < parts_; ++p) {
      const A factor = Exp(largest[p] - all);
      const A* part = weighted_.data() + (i * parts_ + p) * c_;
      total += factor * sum_[static_cast<size_t>(i * parts_ + p)];
#pragma omp simd
      for (int64_t j = 0; j < c_; ++j) {
        sum[static_cast<size_t>(j)] += factor * part[j];
      }
    }
    for (int64_t j = 0; j < c_; ++j) {
      out[j] = static_cast<T>(sum[static_cast<size_t>(j)] / total);
    }
  }

  const CachedAttentionArgs& args_;
  const Stream& stream_;
  int64_t heads_;
  int64_t key_heads_;
  int64_t group_;
  int64_t e_;
  int64_t c_;
  int64_t parts_;
  A scale_;
  std::vector<A> largest_;   // [n, h, parts]
  std::vector<A> sum_;       // [n, h, parts]
  std::vector<A> weighted_;  // [n, h, parts, c]
};

}  // namespace

template <typename T>
void CachedAttention(const CachedAttentionArgs& args, const Stream& stream) {
  Attending<T>(args, stream).Run();
}

template void CachedAttention<double>(const CachedAttentionArgs&, const Stream&);
template void CachedAttention<float>(const CachedAttentionArgs&, const Stream&);
template void CachedAttention<BFloat16>(const CachedAttentionArgs&, const Stream&);

}  // namespace ksa::cpu
