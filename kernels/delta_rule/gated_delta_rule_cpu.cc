#include <algorithm>
#include <cmath>
#include <cstdint>

#include <omp.h>

#include "kernels/core/dtype.h"
#include "kernels/delta_rule/chunk_cpu.h"
#include "kernels/delta_rule/delta_rule_backends.h"

// A (slice, value head) is one task in forward; in backward all value heads of a key head are, for they add to one dq
// and dk, in order. So no order of additions depends on the threads.
namespace ksa::cpu {
namespace {

using delta_rule::AddProduct;
using delta_rule::Chunk;
using delta_rule::kChunkRows;
using delta_rule::Of;
using delta_rule::SetProduct;
using delta_rule::Slice;
using delta_rule::Transposed;

struct Heads {
  int64_t keys;
  int64_t values;
  int64_t dk;
  int64_t dv;

  [[nodiscard]] int64_t KeyOf(int64_t value_head) const { return value_head / (values / keys); }

  [[nodiscard]] int64_t StateSize() const { return dk * dv; }
};

// Runs task(index, memory) for each of `count`, with `size` elements of memory for each thread.
template <typename A, typename Task>
void RunTasks(int64_t count, int64_t size, int threads, Allocator& scratch, const Task& task) {
  const int used = static_cast<int>(std::clamp<int64_t>(count, 1, threads));
  const Tensor memory = Tensor::Empty({used, size}, DTypeOf<A>::value, scratch);
  A* base = memory.As<A>();
#pragma omp parallel for num_threads(used) schedule(dynamic)
  for (int64_t i = 0; i < count; ++i) {
    task(i, base + omp_get_thread_num() * size);
  }
}

// What forward and backward read of the rows of a slice, for one value head.
template <typename T>
struct HeadRows {
  using A = Accumulator<T>;

  const SummaryLayout& layout;
  const Heads& heads;
  const T* q;
  const T* k;
  const T* v;  // null: zeros
  const A* g;
  const A* beta;
  Slice slice;
  int64_t head;  // value head

  [[nodiscard]] int64_t KeyAt(int64_t row) const {
    return ((slice.row + row) * heads.keys + heads.KeyOf(head)) * heads.dk;
  }

  [[nodiscard]] int64_t ValueAt(int64_t row) const { return ((slice.row + row) * heads.values + head) * heads.dv; }

  [[nodiscard]] int64_t NumberAt(int64_t row) const { return (slice.row + row) * heads.values + head; }

  // The chunk that begins at row `first`, with its writes for the state `s0`.
  void Load(int32_t first, const A* s0, Chunk<A>& chunk) const {
    const int64_t at = NumberAt(first);
    chunk.Begin(layout, slice, first, g + at, beta + at, heads.values);
    const A scale = 1 / std::sqrt(static_cast<A>(heads.dk));
    if (q != nullptr) {
      chunk.Load(q + KeyAt(first), heads.keys * heads.dk, heads.dk, scale, chunk.q);
    }
    chunk.Load(k + KeyAt(first), heads.keys * heads.dk, heads.dk, A{1}, chunk.k);
    if (v != nullptr) {
      chunk.Load(v + ValueAt(first), heads.values * heads.dv, heads.dv, A{1}, chunk.e);
    } else {
      std::fill_n(chunk.e, chunk.rows * heads.dv, A{});
    }
    chunk.Solve(q != nullptr, s0);
  }
};

template <typename A>
void CopyState(const TensorView& from, int64_t index, int64_t size, A* to) {
  if (from.empty()) {
    std::fill_n(to, size, A{});
  } else {
    std::copy_n(from.As<A>() + index * size, size, to);
  }
}

template <typename A>
void StoreState(const A* from, int64_t index, int64_t size, const TensorView& to) {
  if (!to.empty()) {
    std::copy_n(from, size, to.As<A>() + index * size);
  }
}

template <typename T, typename A>
void StoreRows(const A* from, int64_t rows, int64_t columns, int64_t pitch, T* to) {
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) {
      to[i * pitch + j] = static_cast<T>(from[i * columns + j]);
    }
  }
}

// The gradients of one slice and value head, from its last chunk to its first.
template <typename T>
class BackwardHead {
 public:
  using A = Accumulator<T>;

  // Elements of memory: what lives besides the chunk and the states.
  [[nodiscard]] static int64_t Size(const Heads& heads) {
    return kChunkRows * (3 * heads.dk + 4 * heads.dv + 2 * kChunkRows) + 3 * heads.StateSize();
  }

  BackwardHead(const GatedDeltaRuleBackwardArgs& args, const HeadRows<T>& rows, Chunk<A>& chunk, A* memory)
      : args_(args), rows_(rows), heads_(rows.heads), chunk_(chunk) {
    const auto take = [&](int64_t size) {
      A* at = memory;
      memory += size;
      return at;
    };
    dq_ = take(kChunkRows * heads_.dk);
    dk_row_ = take(kChunkRows * heads_.dk);
    dk_column_ = take(kChunkRows * heads_.dk);
    dout_ = take(kChunkRows * heads_.dv);
    r_ = take(kChunkRows * heads_.dv);
    nt_ = take(kChunkRows * heads_.dv);
    scaled_ = take(kChunkRows * heads_.dv);
    dp_ = take(kChunkRows * kChunkRows);
    m_ = take(kChunkRows * kChunkRows);
    s0t_ = take(heads_.StateSize());
    dst_ = take(heads_.StateSize());
    ds_ = take(heads_.StateSize());
  }

  // `states`: what comes into each chunk of the slice. Adds to dq and dk [slice rows, dk], of the key head. `state`:
  // the index of the slice's state of this head.
  void Run(const A* states, int64_t state, A* dq, A* dk) {
    CopyState(args_.dfinal_state, state, heads_.StateSize(), ds_);
    for (int32_t c = rows_.slice.chunks() - 1; c >= 0; --c) {
      const A* s0 = states + c * heads_.StateSize();
      rows_.Load(c * kChunkRows, s0, chunk_);
      OneChunk(s0, dq + c * kChunkRows * heads_.dk, dk + c * kChunkRows * heads_.dk);
    }
    StoreState(ds_, state, heads_.StateSize(), args_.dinitial_state);
  }

 private:
  void OneChunk(const A* s0, A* dq, A* dk) {
    const int64_t n = chunk_.rows;
    chunk_.Load(
        args_.dout.template As<T>() + rows_.ValueAt(chunk_.begin), heads_.values * heads_.dv, heads_.dv, A{1}, dout_);
    Transpose(s0, heads_.dk, heads_.dv, s0t_);
    Transpose(ds_, heads_.dk, heads_.dv, dst_);
    Transpose(chunk_.n, n, heads_.dv, nt_);
    SolveWrites();
    if (args_.dq.empty()) {
      PreviousState();
      return;
    }
    SetProduct(n, n, heads_.dv, Of(dout_, heads_.dv), nt_, dp_);
    chunk_.Decay(true, A{1}, dp_);
    SetProduct(n, n, heads_.dv, Of(r_, heads_.dv), nt_, m_);
    chunk_.Decay(false, A{-1}, m_);
    delta_rule::ScaleRows(n, n, chunk_.beta, m_);
    const A kept = StateTimesGradient(s0);
    KeysAndQueries();
    StoreGradients(kept);
    for (int64_t i = 0; i < n * heads_.dk; ++i) {
      dq[i] += dq_[i];
      dk[i] += dk_row_[i] + dk_column_[i];
    }
    PreviousState();
  }

  // r_: the gradient of the writes N, through the rows that read them in and after the chunk.
  void SolveWrites() {
    const int64_t n = chunk_.rows;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < heads_.dk; ++j) {
        chunk_.decayed_k[i * heads_.dk + j] = chunk_.to_state[i] * chunk_.k[i * heads_.dk + j];
      }
    }
    SetProduct(n, heads_.dv, heads_.dk, Of(chunk_.decayed_k, heads_.dk), ds_, r_);
    AddProduct(n, heads_.dv, n, Transposed(chunk_.p, n), dout_, r_);
    for (int64_t i = n - 2; i >= 0; --i) {
      for (int64_t j = i + 1; j < n; ++j) {
        const A factor = chunk_.beta[j] * chunk_.c[j * n + i];  // c is negated
#pragma omp simd
        for (int64_t x = 0; x < heads_.dv; ++x) {
          r_[i * heads_.dv + x] += factor * r_[j * heads_.dv + x];
        }
      }
    }
  }

  // dk_column_ = (what rows add to the state that leaves) · its gradient; returns the part of <S1, dS1> of S0.
  A StateTimesGradient(const A* s0) {
    const int64_t n = chunk_.rows;
    Scale(chunk_.n, chunk_.to_state);
    SetProduct(n, heads_.dk, heads_.dv, Of(scaled_, heads_.dv), dst_, dk_column_);
    A sum = chunk_.state_kept * delta_rule::DotOf(s0, ds_, heads_.StateSize());
    for (int64_t i = 0; i < n; ++i) {
      sum += delta_rule::DotOf(chunk_.k + i * heads_.dk, dk_column_ + i * heads_.dk, heads_.dk);
    }
    return sum;
  }

  void KeysAndQueries() {
    const int64_t n = chunk_.rows;
    const int64_t dk = heads_.dk;
    Scale(dout_, chunk_.from_state);
    SetProduct(n, dk, heads_.dv, Of(scaled_, heads_.dv), s0t_, dq_);
    AddProduct(n, dk, n, Of(dp_, n), chunk_.k, dq_);
    ScaleWrites();
    SetProduct(n, dk, heads_.dv, Of(scaled_, heads_.dv), s0t_, dk_row_);
    AddProduct(n, dk, n, Of(m_, n), chunk_.k, dk_row_);
    AddProduct(n, dk, n, Transposed(dp_, n), chunk_.q, dk_column_);
    AddProduct(n, dk, n, Transposed(m_, n), chunk_.k, dk_column_);
  }

  // dv, dg and dbeta of the chunk; and dq as that of the query before its scale. `kept`: the gradient of the last b.
  void StoreGradients(A kept) {
    const int64_t n = chunk_.rows;
    const int64_t dk = heads_.dk;
    const A scale = 1 / std::sqrt(static_cast<A>(dk));
    A* dg = args_.dg.template As<A>() + rows_.NumberAt(chunk_.begin);
    A* dbeta = args_.dbeta.template As<A>() + rows_.NumberAt(chunk_.begin);
    A sum{};
    for (int64_t i = n - 1; i >= 0; --i) {
      const A* k = chunk_.k + i * dk;
      if (i + 1 < n && chunk_.start[i + 1] != chunk_.start[i]) {
        sum = A{};  // no decay reaches over the start of a document
      }
      sum += delta_rule::DotOf(chunk_.q + i * dk, dq_ + i * dk, dk) + delta_rule::DotOf(k, dk_row_ + i * dk, dk) -
             delta_rule::DotOf(k, dk_column_ + i * dk, dk) + (i == n - 1 ? kept : A{});
      dg[i * heads_.values] = chunk_.padding[i] ? A{} : sum;
      dbeta[i * heads_.values] =
          chunk_.padding[i] ? A{} : delta_rule::DotOf(r_ + i * heads_.dv, chunk_.e + i * heads_.dv, heads_.dv);
    }
    Scale(r_, chunk_.beta);
    StoreRows(
        scaled_, n, heads_.dv, heads_.values * heads_.dv, args_.dv.template As<T>() + rows_.ValueAt(chunk_.begin));
    for (int64_t i = 0; i < n * dk; ++i) {
      dq_[i] *= scale;
    }
  }

  // ds_: the gradient of the state that came in.
  void PreviousState() {
    const int64_t n = chunk_.rows;
    for (int64_t i = 0; i < heads_.StateSize(); ++i) {
      ds_[i] *= chunk_.state_kept;
    }
    Scale(dout_, chunk_.from_state);
    AddProduct(heads_.dk, heads_.dv, n, Transposed(chunk_.q, heads_.dk), scaled_, ds_);
    ScaleWrites();
    AddProduct(heads_.dk, heads_.dv, n, Transposed(chunk_.k, heads_.dk), scaled_, ds_);
  }

  // scaled_ [rows, dv] = x, row by row times `factor`.
  void Scale(const A* x, const A* factor) {
    std::copy_n(x, chunk_.rows * heads_.dv, scaled_);
    delta_rule::ScaleRows(chunk_.rows, heads_.dv, factor, scaled_);
  }

  // scaled_ = -beta e^b R in rows that see the state.
  void ScaleWrites() {
    A factor[kChunkRows];
    for (int32_t i = 0; i < chunk_.rows; ++i) {
      factor[i] = -chunk_.beta[i] * chunk_.from_state[i];
    }
    Scale(r_, factor);
  }

  static void Transpose(const A* from, int64_t rows, int64_t columns, A* to) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        to[j * rows + i] = from[i * columns + j];
      }
    }
  }

  const GatedDeltaRuleBackwardArgs& args_;
  const HeadRows<T>& rows_;
  const Heads& heads_;
  Chunk<A>& chunk_;
  A* dq_;         // [rows, dk]
  A* dk_row_;     // [rows, dk]: as what is read from
  A* dk_column_;  // [rows, dk]: as what is written to
  A* dout_;       // [rows, dv]
  A* r_;          // [rows, dv]
  A* nt_;         // [dv, rows]
  A* scaled_;     // [rows, dv]
  A* dp_;         // [rows, rows]
  A* m_;          // [rows, rows]
  A* s0t_;        // [dv, dk]
  A* dst_;        // [dv, dk]: ds_
  A* ds_;         // [dk, dv]: the gradient of the state that leaves
};

}  // namespace

template <typename T>
void GatedDeltaRuleForward(const GatedDeltaRuleForwardArgs& args, int threads, Allocator& scratch) {
  using A = Accumulator<T>;
  const Heads heads = {args.k.shape[1], args.v.shape[1], args.k.shape[2], args.v.shape[2]};
  const int64_t chunk_size = Chunk<A>::Size(heads.dk, heads.dv);
  const int64_t size = chunk_size + heads.StateSize() + kChunkRows * heads.dv;
  RunTasks<A>(SliceCount(args.layout) * heads.values, size, threads, scratch, [&](int64_t task, A* memory) {
    const HeadRows<T> rows = {args.layout,
                              heads,
                              args.out.empty() ? nullptr : args.q.As<T>(),
                              args.k.As<T>(),
                              args.v.As<T>(),
                              args.g.As<A>(),
                              args.beta.As<A>(),
                              Slice(args.layout, task / heads.values),
                              task % heads.values};
    Chunk<A> chunk(heads.dk, heads.dv, memory);
    A* state = memory + chunk_size;
    A* out = state + heads.StateSize();
    CopyState(args.initial_state, task, heads.StateSize(), state);
    for (int32_t c = 0; c < rows.slice.chunks(); ++c) {
      rows.Load(c * kChunkRows, state, chunk);
      if (!args.out.empty()) {
        chunk.Read(state, out);
        StoreRows(out, chunk.rows, heads.dv, heads.values * heads.dv, args.out.As<T>() + rows.ValueAt(c * kChunkRows));
      }
      chunk.Advance(state);
    }
    StoreState(state, task, heads.StateSize(), args.final_state);
  });
}

// The same scan without values, from the identity: dk columns of state.
template <typename T>
void GatedDeltaRuleTransition(const GatedDeltaRuleTransitionArgs& args, int threads, Allocator& scratch) {
  using A = Accumulator<T>;
  const int64_t dk = args.k.shape[2];
  const Heads heads = {args.k.shape[1], args.g.shape[1], dk, dk};
  const int64_t size = Chunk<A>::Size(dk, dk);
  RunTasks<A>(SliceCount(args.layout) * heads.values, size, threads, scratch, [&](int64_t task, A* memory) {
    const HeadRows<T> rows = {args.layout,
                              heads,
                              nullptr,
                              args.k.As<T>(),
                              nullptr,
                              args.g.As<A>(),
                              args.beta.As<A>(),
                              Slice(args.layout, task / heads.values),
                              task % heads.values};
    Chunk<A> chunk(dk, dk, memory);
    A* state = args.transition.As<A>() + task * heads.StateSize();
    std::fill_n(state, heads.StateSize(), A{});
    for (int64_t i = 0; i < dk; ++i) {
      state[i * dk + i] = A{1};
    }
    for (int32_t c = 0; c < rows.slice.chunks(); ++c) {
      rows.Load(c * kChunkRows, state, chunk);
      chunk.Advance(state);
    }
  });
}

template <typename T>
void GatedDeltaRuleBackward(const GatedDeltaRuleBackwardArgs& args, int threads, Allocator& scratch) {
  using A = Accumulator<T>;
  const Heads heads = {args.k.shape[1], args.v.shape[1], args.k.shape[2], args.v.shape[2]};
  const SummaryLayout& layout = args.layout;
  int64_t longest = 0;
  for (int64_t slice = 0; slice < SliceCount(layout); ++slice) {
    longest = std::max<int64_t>(longest, Slice(layout, slice).rows);
  }
  const int64_t chunks = (longest + kChunkRows - 1) / kChunkRows;
  const int64_t chunk_size = Chunk<A>::Size(heads.dk, heads.dv);
  const int64_t head_size = BackwardHead<T>::Size(heads);
  const int64_t size = chunk_size + head_size + chunks * heads.StateSize() + 2 * longest * heads.dk;
  RunTasks<A>(SliceCount(layout) * heads.keys, size, threads, scratch, [&](int64_t task, A* memory) {
    const Slice slice(layout, task / heads.keys);
    const int64_t key_head = task % heads.keys;
    Chunk<A> chunk(heads.dk, heads.dv, memory);
    A* states = memory + chunk_size + head_size;
    A* dq = states + chunks * heads.StateSize();
    A* dk = dq + longest * heads.dk;
    std::fill_n(dq, 2 * longest * heads.dk, A{});
    const int64_t share = heads.values / heads.keys;
    for (int64_t head = key_head * share; head < (key_head + 1) * share; ++head) {
      const HeadRows<T> rows = {layout,
                                heads,
                                args.q.As<T>(),
                                args.k.As<T>(),
                                args.v.As<T>(),
                                args.g.As<A>(),
                                args.beta.As<A>(),
                                slice,
                                head};
      const int64_t state = task / heads.keys * heads.values + head;
      CopyState(args.initial_state, state, heads.StateSize(), states);
      for (int32_t c = 0; c + 1 < slice.chunks(); ++c) {
        const A* s0 = states + c * heads.StateSize();
        A* next = states + (c + 1) * heads.StateSize();
        std::copy_n(s0, heads.StateSize(), next);
        rows.Load(c * kChunkRows, s0, chunk);
        chunk.Advance(next);
      }
      BackwardHead<T>(args, rows, chunk, memory + chunk_size).Run(states, state, dq, dk);
    }
    if (args.dq.empty()) {
      return;
    }
    const int64_t pitch = heads.keys * heads.dk;
    const int64_t at = slice.row * pitch + key_head * heads.dk;
    StoreRows(dq, slice.rows, heads.dk, pitch, args.dq.As<T>() + at);
    StoreRows(dk, slice.rows, heads.dk, pitch, args.dk.As<T>() + at);
  });
}

template <typename A>
void DeltaStateStep(const DeltaStateStepArgs& args, int threads) {
  const int64_t dk = args.state.shape[1];
  const int64_t dv = args.state.shape[2];
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t head = 0; head < args.state.shape[0]; ++head) {
    const A* transition = args.transition.As<A>() + head * dk * dk;
    A* out = args.out.As<A>() + head * dk * dv;
    std::copy_n(args.add.As<A>() + head * dk * dv, dk * dv, out);
    AddProduct(dk,
               dv,
               dk,
               args.transposed ? Transposed(transition, dk) : Of(transition, dk),
               args.state.As<A>() + head * dk * dv,
               out);
  }
}

template void DeltaStateStep<double>(const DeltaStateStepArgs&, int);
template void DeltaStateStep<float>(const DeltaStateStepArgs&, int);
template void GatedDeltaRuleForward<double>(const GatedDeltaRuleForwardArgs&, int, Allocator&);
template void GatedDeltaRuleForward<float>(const GatedDeltaRuleForwardArgs&, int, Allocator&);
template void GatedDeltaRuleForward<BFloat16>(const GatedDeltaRuleForwardArgs&, int, Allocator&);
template void GatedDeltaRuleTransition<double>(const GatedDeltaRuleTransitionArgs&, int, Allocator&);
template void GatedDeltaRuleTransition<float>(const GatedDeltaRuleTransitionArgs&, int, Allocator&);
template void GatedDeltaRuleTransition<BFloat16>(const GatedDeltaRuleTransitionArgs&, int, Allocator&);
template void GatedDeltaRuleBackward<double>(const GatedDeltaRuleBackwardArgs&, int, Allocator&);
template void GatedDeltaRuleBackward<float>(const GatedDeltaRuleBackwardArgs&, int, Allocator&);
template void GatedDeltaRuleBackward<BFloat16>(const GatedDeltaRuleBackwardArgs&, int, Allocator&);

}  // namespace ksa::cpu
