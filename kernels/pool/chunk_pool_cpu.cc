// A task takes some channels of all chunks, in order: so sums over chunks have an order that no number of threads
// changes.
#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/pool/chunk_pool_backends.h"

namespace ksa::cpu {
namespace {

constexpr int64_t kLanes = 32;  // channels of a task

// Some channels of rows of text.
template <typename T>
struct Columns {
  const TensorView& x;
  int64_t first;
  int64_t count;

  [[nodiscard]] T* At(int64_t row) const { return x.As<T>() + row * x.cols() + first; }
};

// The softmax of a chunk's slots for some channels.
template <typename T>
class SlotWeights {
 public:
  using A = Accumulator<T>;

  explicit SlotWeights(int64_t slots) : weights_(static_cast<size_t>(slots * kLanes)) {}

  // Of the chunk whose first row is `row`.
  void Compute(const Columns<T>& gate, const Columns<T>& bias, int64_t row, int64_t slots) {
    constexpr A kNone = -std::numeric_limits<A>::infinity();
    A largest[kLanes];  // of the gate alone: subtracted before the bias is added, which a large one would round away
    A max[kLanes];
    A sum[kLanes] = {};
    std::fill_n(largest, kLanes, kNone);
    std::fill_n(max, kLanes, kNone);
    for (int64_t s = 0; s < slots; ++s) {
      const T* z = gate.At(row + s);
#pragma omp simd
      for (int64_t c = 0; c < gate.count; ++c) {
        const A value = static_cast<A>(z[c]);
        largest[c] = value > largest[c] ? value : largest[c];
      }
    }
    for (int64_t s = 0; s < slots; ++s) {
      const T* z = gate.At(row + s);
      const T* b = bias.At(s);
      A* w = Of(s);
#pragma omp simd
      for (int64_t c = 0; c < gate.count; ++c) {
        w[c] = (static_cast<A>(z[c]) - largest[c]) + static_cast<A>(b[c]);
        max[c] = w[c] > max[c] ? w[c] : max[c];
      }
    }
    for (int64_t s = 0; s < slots; ++s) {
      A* w = Of(s);
#pragma omp simd
      for (int64_t c = 0; c < gate.count; ++c) {
        w[c] = Exp(w[c] - max[c]);
        sum[c] += w[c];
      }
    }
    for (int64_t s = 0; s < slots; ++s) {
      A* w = Of(s);
#pragma omp simd
      for (int64_t c = 0; c < gate.count; ++c) {
        w[c] /= sum[c];
      }
    }
  }

  [[nodiscard]] A* Of(int64_t slot) {
    return weights_.data() + slot * kLanes;
  }

 private:
  std::vector<A> weights_;  // [slots, kLanes]
};

// sum over slots of the weights times x.
template <typename T>
void Pool(SlotWeights<T>& weights, const Columns<T>& x, int64_t row, int64_t slots, Accumulator<T>* pooled) {
  using A = Accumulator<T>;
  std::fill_n(pooled, kLanes, A{});
  for (int64_t s = 0; s < slots; ++s) {
    const A* w = weights.Of(s);
    const T* from = x.At(row + s);
#pragma omp simd
    for (int64_t c = 0; c < x.count; ++c) {
      pooled[c] += w[c] * static_cast<A>(from[c]);
    }
  }
}

// visit(entry, first row of its chunk, whether the chunk is whole) for all entries, in order.
template <typename Visit>
void ForEachEntry(const SummaryLayout& layout, const Visit& visit) {
  for (int32_t q = 0; q < layout.sequences; ++q) {
    for (int32_t place = 0; place < layout.live_chunks; ++place) {
      visit(layout.SummaryRow(q, place) - layout.text_rows(),
            layout.TextRow(q, place * layout.chunk_size),
            layout.ChunkTokens(q, layout.ChunkAt(place)) == layout.chunk_size);
    }
  }
}

template <typename T>
class BackwardTask {
 public:
  using A = Accumulator<T>;

  BackwardTask(const ChunkPoolBackwardArgs& args, int64_t first, int64_t count)
      : args_(args),
        first_(first),
        count_(count),
        slots_(args.layout.chunk_size),
        weights_(slots_),
        dbias_(static_cast<size_t>(slots_ * kLanes)),
        dgate_(static_cast<size_t>(slots_ * kLanes)) {}

  void Run() {
    Clear(args_.dgate);
    for (const TensorView& dx : args_.dx) {
      Clear(dx);
    }
    ForEachEntry(args_.layout, [&](int64_t entry, int64_t row, bool is_whole) {
      if (is_whole) {
        AddChunk(entry, row);
      }
    });
    for (int64_t s = 0; s < slots_; ++s) {
      A* out = args_.dbias.As<A>() + s * args_.dbias.cols() + first_;
      for (int64_t c = 0; c < count_; ++c) {
        out[c] = (args_.accumulate ? out[c] : A{}) + dbias_[static_cast<size_t>(s * kLanes + c)];
      }
    }
  }

 private:
  [[nodiscard]] Columns<T> ColumnsOf(const TensorView& x) const { return {x, first_, count_}; }

  void Clear(const TensorView& x) const {
    for (int64_t r = 0; !x.empty() && r < x.rows(); ++r) {
      std::fill_n(ColumnsOf(x).At(r), count_, T{});
    }
  }

  // d(gate of slot s) = p_s · sum over the pooled matrices of dy (x_s - y); d(x_s) = p_s dy.
  void AddChunk(int64_t entry, int64_t row) {
    weights_.Compute(ColumnsOf(args_.gate), ColumnsOf(args_.bias), row, slots_);
    std::fill(dgate_.begin(), dgate_.end(), A{});
    for (size_t i = 0; i < args_.x.size() && !args_.x[i].empty(); ++i) {
      const Columns<T> x = ColumnsOf(args_.x[i]);
      A pooled[kLanes];
      Pool(weights_, x, row, slots_, pooled);
      const T* dy = ColumnsOf(args_.dy[i]).At(entry);
      for (int64_t s = 0; s < slots_; ++s) {
        const A* w = weights_.Of(s);
        A* dgate = dgate_.data() + s * kLanes;
        const T* from = x.At(row + s);
        T* dx = ColumnsOf(args_.dx[i]).At(row + s);
#pragma omp simd
        for (int64_t c = 0; c < count_; ++c) {
          const A g = static_cast<A>(dy[c]);
          dgate[c] += w[c] * g * (static_cast<A>(from[c]) - pooled[c]);
          dx[c] = static_cast<T>(w[c] * g);
        }
      }
    }
    for (int64_t s = 0; s < slots_; ++s) {
      const A* dgate = dgate_.data() + s * kLanes;
      A* dbias = dbias_.data() + s * kLanes;
      T* out = ColumnsOf(args_.dgate).At(row + s);
#pragma omp simd
      for (int64_t c = 0; c < count_; ++c) {
        dbias[c] += dgate[c];
        out[c] = static_cast<T>(dgate[c]);
      }
    }
  }

  const ChunkPoolBackwardArgs& args_;
  int64_t first_;
  int64_t count_;
  int64_t slots_;
  SlotWeights<T> weights_;
  std::vector<A> dbias_;  // [slots, kLanes]
  std::vector<A> dgate_;  // of one chunk
};

// function(first channel, count) for all of them.
template <typename Function>
void ForEachTask(const Stream& stream, const SummaryLayout& layout, int64_t channels, const Function& function) {
  const int64_t elements = (PooledRows(layout) + 1) * kLanes;
  ParallelFor(stream, (channels + kLanes - 1) / kLanes, elements, [&](int64_t task) {
    function(task * kLanes, std::min(kLanes, channels - task * kLanes));
  });
}

}  // namespace

template <typename T>
void ChunkPoolForward(const ChunkPoolForwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t slots = args.layout.chunk_size;
  ForEachTask(stream, args.layout, args.gate.cols(), [&](int64_t first, int64_t count) {
    SlotWeights<T> weights(slots);
    ForEachEntry(args.layout, [&](int64_t entry, int64_t row, bool is_whole) {
      if (is_whole) {
        weights.Compute({args.gate, first, count}, {args.bias, first, count}, row, slots);
      }
      for (size_t i = 0; i < args.x.size() && !args.x[i].empty(); ++i) {
        A pooled[kLanes] = {};
        if (is_whole) {
          Pool(weights, Columns<T>{args.x[i], first, count}, row, slots, pooled);
        }
        T* y = Columns<T>{args.y[i], first, count}.At(entry);
        for (int64_t c = 0; c < count; ++c) {
          y[c] = static_cast<T>(pooled[c]);
        }
      }
    });
  });
}

template <typename T>
void ChunkPoolBackward(const ChunkPoolBackwardArgs& args, const Stream& stream) {
  ForEachTask(stream, args.layout, args.gate.cols(), [&](int64_t first, int64_t count) {
    BackwardTask<T>(args, first, count).Run();
  });
}

template void ChunkPoolForward<double>(const ChunkPoolForwardArgs&, const Stream&);
template void ChunkPoolForward<float>(const ChunkPoolForwardArgs&, const Stream&);
template void ChunkPoolForward<BFloat16>(const ChunkPoolForwardArgs&, const Stream&);
template void ChunkPoolBackward<double>(const ChunkPoolBackwardArgs&, const Stream&);
template void ChunkPoolBackward<float>(const ChunkPoolBackwardArgs&, const Stream&);
template void ChunkPoolBackward<BFloat16>(const ChunkPoolBackwardArgs&, const Stream&);

}  // namespace ksa::cpu
