// Kernels of the backward pass, behind those of the forward pass up to the scan. Gradients of states are scanned from
// the last chunk to the first; all else is a chunk's own.
#pragma once

#include "kernels/delta_rule/rule_forward.cuh"
#include "kernels/device/reduce.cuh"

namespace ksa::cuda_delta {

template <int kDk>
struct WritesShared {
  ChunkRows rows;
  alignas(16) float q[kChunkRows * kPitchOf<kDk>];
  alignas(16) float k[kChunkRows * kPitchOf<kDk>];
  alignas(16) float p[kChunkRows * kPitchOf<kChunkRows>];
  alignas(16) float dout[kChunkRows * kPitchOf<kWide>];
};

// What a chunk's own rows leave: P^T dO of its writes, and (e^b Q)^T dO of the state that comes in.
template <typename T, int kTerms, int kDk>
__global__ void __launch_bounds__(kThreads) WritesKernel(const Rule<T> rule, const T* dout) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<WritesShared<kDk>*>(memory);
  const ChunkPlace place(rule, blockIdx.x / rule.value_heads, static_cast<int>(blockIdx.x % rule.value_heads));
  const Slice slice(rule.layout, place.slice);
  const ChunkRows& rows = shared.rows;
  shared.rows.Make(rule, slice, place.first, place.head);
  const int64_t key = KeyAt(rule, slice, place);
  const int64_t key_pitch = int64_t{1} * rule.key_heads * rule.dk;
  LoadQueries<kDk, kTerms>(rows, rule, key, shared.q);
  LoadRows<kDk>(rows, rule.k + key, key_pitch, rule.dk, shared.k);
  __syncthreads();
  MakeScores<kTerms, kDk>(rows, shared.q, shared.k, shared.p);
  for (int begin = 0; begin < rule.dv; begin += kWide) {
    __syncthreads();
    LoadRows<kWide>(rows,
                    dout + ValueAt(rule, slice, place) + begin,
                    int64_t{1} * rule.value_heads * rule.dv,
                    rule.dv - begin,
                    shared.dout);
    __syncthreads();
    Part<kChunkRows, kWide> writes;
    writes.Clear();
    writes.template Add<kTerms, kChunkRows>(TransposedTile<kPitchOf<kChunkRows>>{shared.p},
                                            Tile<kPitchOf<kWide>>{shared.dout});
    writes.ForEach([&](int i, int j, float& x) {
      if (begin + j < rule.dv) {
        rule.writes[(place.at * kChunkRows + i) * rule.dv + begin + j] = x;
      }
    });
    Part<kDk, kWide> reads;
    reads.Clear();
    reads.template Add<kTerms, kChunkRows>(ColumnsTimes<TransposedTile<kPitchOf<kDk>>>{{shared.q}, rows.from_state},
                                           Tile<kPitchOf<kWide>>{shared.dout});
    reads.ForEach([&](int i, int j, float& x) {
      if (i < rule.dk && begin + j < rule.dv) {
        rule.reads[(place.at * rule.dk + i) * rule.dv + begin + j] = x;
      }
    });
  }
}

template <int kDk>
struct BackScanShared {
  ChunkTiles<kDk> chunks[2];
  alignas(16) float de[kChunkRows * kPitchOf<kSmall>];  // -beta dN
  alignas(16) float state[kDk * kPitchOf<kSmall>];      // its gradient
};

// dN and the gradients of the states, from the last chunk to the first. `first`: of what leaves a slice; `last`: of
// what comes in.
template <typename T, int kTerms, int kDk>
__global__ void __launch_bounds__(kThreads) BackScanKernel(const Rule<T> rule, const ScanStates states) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<BackScanShared<kDk>*>(memory);
  const int begin = static_cast<int>(blockIdx.x) * kSmall;
  const auto head = static_cast<int>(blockIdx.y);
  const Slice slice(rule.layout, blockIdx.z);
  const int64_t of_slice = (int64_t{blockIdx.z} * rule.value_heads + head) * rule.dk * rule.dv;
  using State = Part<kDk, kSmall>;
  constexpr int kPitch = kPitchOf<kSmall>;
  const auto there = [&](int i, int j) { return i < rule.dk && begin + j < rule.dv; };
  State state;
  state.ForEach([&](int i, int j, float& x) {
    x = there(i, j) && states.first != nullptr ? states.first[of_slice + int64_t{i} * rule.dv + begin + j] : 0.0F;
    shared.state[i * kPitch + j] = x;
  });
  const int64_t first_chunk = FirstChunk(rule, blockIdx.z);
  const int32_t chunks = slice.chunks();
  const auto place_of = [&](int32_t c) { return (first_chunk + c) * rule.value_heads + head; };
  shared.chunks[(chunks - 1) % 2].Fill(rule, place_of(chunks - 1));
  using Rows = Part<kChunkRows, kSmall>;
  for (int32_t c = chunks - 1; c >= 0; --c) {
    const int64_t at = place_of(c);
    const ChunkTiles<kDk>& chunk = shared.chunks[c % 2];
    device::WaitForCopies<0>();
    __syncthreads();  // the chunk's tiles and the state are there, and nobody reads the tiles of the chunk behind
    if (c > 0) {
      shared.chunks[(c - 1) % 2].Fill(rule, place_of(c - 1));
    }
    Rows writes;
    writes.ForEach([&](int i, int j, float& x) {
      x = begin + j < rule.dv ? rule.writes[(at * kChunkRows + i) * rule.dv + begin + j] : 0.0F;
    });
    State reads;
    reads.ForEach(
        [&](int i, int j, float& x) { x = there(i, j) ? rule.reads[(at * rule.dk + i) * rule.dv + begin + j] : 0.0F; });
    if (rule.state_gradients != nullptr) {
      state.ForEach([&](int i, int j, float& x) {
        if (there(i, j)) {
          rule.state_gradients[(at * rule.dk + i) * rule.dv + begin + j] = x;
        }
      });
    }
    writes.template Add<kTerms, kDk>(Tile<kPitchOf<kDk>>{chunk.keys}, Tile<kPitch>{shared.state});
    writes.ForEach([&](int i, int j, float& x) {
      if (begin + j < rule.dv) {
        rule.writes[(at * kChunkRows + i) * rule.dv + begin + j] = x;
      }
      shared.de[i * kPitch + j] = -chunk.numbers[i] * x;
    });
    __syncthreads();
    const float kept = chunk.numbers[kChunkRows];
#pragma unroll
    for (int n = 0; n < State::kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        state.c[n][i] = kept * state.c[n][i] + reads.c[n][i];
      }
    }
    state.template Add<kTerms, kChunkRows>(TransposedTile<kPitchOf<kDk>>{chunk.w}, Tile<kPitch>{shared.de});
    state.ForEach([&](int i, int j, float& x) { shared.state[i * kPitch + j] = x; });
  }
  state.ForEach([&](int i, int j, float& x) {
    if (states.last != nullptr && there(i, j)) {
      states.last[of_slice + int64_t{i} * rule.dv + begin + j] = x;
    }
  });
}

template <int kDk>
struct GradientShared {
  ChunkRows rows;
  alignas(16) float q[kChunkRows * kPitchOf<kDk>];
  alignas(16) float k[kChunkRows * kPitchOf<kDk>];
  alignas(16) float system[kChunkRows * kPitchOf<kChunkRows>];   // C; then the gradients of P
  alignas(16) float inverse[kChunkRows * kPitchOf<kChunkRows>];  // X; then M
  alignas(16) float dout[kChunkRows * kPitchOf<kSmall>];
  alignas(16) float e[kChunkRows * kPitchOf<kSmall>];
  alignas(16) float dn[kChunkRows * kPitchOf<kSmall>];
  alignas(16) float g[kChunkRows * kPitchOf<kSmall>];
  alignas(16) float state[kDk * kPitchOf<kSmall>];  // S0, then its gradient dS1
  float row_sums[2][kChunkRows];
  float db[kChunkRows];
  float block_sums[kWarps];
};

// Gradients of a chunk's rows that a block has, of [64, dk] each.
template <int kDk>
struct KeyGradients {
  using Keys = Part<kChunkRows, kDk>;

  Keys q;
  Keys k_row;     // as what is read from
  Keys k_column;  // as what is written to
  Part<kChunkRows, kChunkRows> p;
  Part<kChunkRows, kChunkRows> m;
  float dbeta[2];          // of the rows that the thread has
  float state_sum = 0.0F;  // of S0 · dS1, what this thread has
};

// The part of a pass over columns [begin, begin + kSmall) of values; `shared` holds C and X.
template <typename T, int kTerms, int kDk>
__device__ void AddColumns(const Rule<T>& rule,
                           const ChunkPlace& place,
                           const Slice& slice,
                           const T* dout,
                           T* dv,
                           int begin,
                           GradientShared<kDk>& shared,
                           KeyGradients<kDk>& sums) {
  constexpr int kPitch = kPitchOf<kSmall>;
  constexpr int kSquare = kPitchOf<kChunkRows>;
  const ChunkRows& rows = shared.rows;
  const int64_t value = ValueAt(rule, slice, place) + begin;
  const int64_t pitch = int64_t{1} * rule.value_heads * rule.dv;
  LoadRows<kSmall>(rows, dout + value, pitch, rule.dv - begin, shared.dout);
  LoadMatrix<kChunkRows, kSmall>(rule.e + place.at * kChunkRows * rule.dv, kChunkRows, rule.dv, begin, shared.e);
  LoadMatrix<kChunkRows, kSmall>(rule.writes + place.at * kChunkRows * rule.dv, kChunkRows, rule.dv, begin, shared.dn);
  LoadMatrix<kDk, kSmall>(rule.states + place.at * rule.dk * rule.dv, rule.dk, rule.dv, begin, shared.state);
  __syncthreads();
  using Small = Part<kChunkRows, kSmall>;
  Small g;
  g.Clear();
  g.template Add<kTerms, kChunkRows>(TransposedTile<kSquare>{shared.inverse},
                                     RowsTimes<Tile<kPitch>>{{shared.dn}, rows.beta});
  g.ForEach([&](int i, int j, float& x) {
    shared.g[i * kPitch + j] = x;
    if (i < rows.rows && begin + j < rule.dv) {
      dv[value + i * pitch + j] = static_cast<T>(x);
    }
  });
  const Tile<kPitch> out{shared.dout};
  const TransposedTile<kPitch> state{shared.state};
  sums.q.template Add<kTerms, kSmall>(RowsTimes<Tile<kPitch>>{out, rows.from_state}, state);
  const ColumnsTimes<TransposedTile<kPitch>> written{{shared.e}, rows.beta};  // N^T
  sums.p.template Add<kTerms, kSmall>(out, written);
  __syncthreads();
  const Tile<kPitch> of_rows{shared.g};
  sums.k_row.template Add<kTerms, kSmall>(RowsTimes<Tile<kPitch>>{of_rows, rows.from_state}, state);  // negated below
  sums.m.template Add<kTerms, kSmall>(of_rows, written);
  Small through;
  through.Clear();
  through.template Add<kTerms, kChunkRows>(TransposedTile<kSquare>{shared.system}, of_rows);
  through.AddRowSums(sums.dbeta,
                     [&](int i, int j, float x) { return (shared.dn[i * kPitch + j] - x) * shared.e[i * kPitch + j]; });
  __syncthreads();
  const float* leaves = rule.state_gradients + place.at * rule.dk * rule.dv;
  for (int x = static_cast<int>(threadIdx.x); x < kDk * kSmall; x += kThreads) {
    const int i = x / kSmall;
    const int j = x % kSmall;
    const float gradient = i < rule.dk && begin + j < rule.dv ? leaves[i * rule.dv + begin + j] : 0.0F;
    sums.state_sum += shared.state[i * kPitch + j] * gradient;
    shared.state[i * kPitch + j] = gradient;
  }
  __syncthreads();
  using Scaled = RowsTimes<RowsTimes<Tile<kPitch>>>;
  sums.k_column.template Add<kTerms, kSmall>(Scaled{{{shared.e}, rows.beta}, rows.to_state}, state);
  __syncthreads();
}

// Gradients of the decays, of those of their running sums: no decay reaches over the start of a document.
template <typename T, int kDk>
__device__ void StoreDecays(const Rule<T>& rule,
                            const Slice& slice,
                            const ChunkPlace& place,
                            const GradientShared<kDk>& shared,
                            float of_last,
                            float* dg) {
  const int i = static_cast<int>(threadIdx.x);
  const ChunkRows& rows = shared.rows;
  if (i >= rows.rows) {
    return;
  }
  float sum = 0.0F;
  for (int r = rows.rows - 1; r >= i; --r) {
    sum += rows.start[r] == rows.start[i] ? shared.db[r] + (r == rows.rows - 1 ? of_last : 0.0F) : 0.0F;
  }
  dg[(slice.row + place.first + i) * rule.value_heads + place.head] = rows.real[i] * sum;
}

// All gradients of a chunk and value head; those of q and k, which value heads share, into scratch.
template <typename T, int kTerms, int kDk>
__global__ void __launch_bounds__(kThreads)
    GradientKernel(const Rule<T> rule, const T* dout, T* dv, float* dg, float* dbeta) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<GradientShared<kDk>*>(memory);
  constexpr int kSquare = kPitchOf<kChunkRows>;
  using Keys = Part<kChunkRows, kDk>;
  const ChunkPlace place(rule, blockIdx.x / rule.value_heads, static_cast<int>(blockIdx.x % rule.value_heads));
  const Slice slice(rule.layout, place.slice);
  const ChunkRows& rows = shared.rows;
  shared.rows.Make(rule, slice, place.first, place.head);
  const int64_t key = KeyAt(rule, slice, place);
  const int64_t key_pitch = int64_t{1} * rule.key_heads * rule.dk;
  LoadQueries<kDk, kTerms>(rows, rule, key, shared.q);
  LoadRows<kDk>(rows, rule.k + key, key_pitch, rule.dk, shared.k);
  LoadMatrix<kChunkRows, kChunkRows>(
      rule.inverse + place.at * (kChunkRows * kChunkRows), kChunkRows, kChunkRows, 0, shared.inverse);
  __syncthreads();
  const Tile<kPitchOf<kDk>> q{shared.q};
  const Tile<kPitchOf<kDk>> k{shared.k};
  KeyGradients<kDk> sums;
  sums.p.Clear();
  sums.p.template Add<kTerms, kDk>(k, TransposedTile<kPitchOf<kDk>>{shared.k});
  sums.p.ForEach([&](int i, int j, float& x) { shared.system[i * kSquare + j] = j < i ? x * rows.Decay(i, j) : 0.0F; });
  sums.q.Clear();
  sums.k_row.Clear();
  sums.k_column.Clear();
  sums.p.Clear();
  sums.m.Clear();
  sums.dbeta[0] = sums.dbeta[1] = 0.0F;
  for (int begin = 0; begin < rule.dv; begin += kSmall) {
    AddColumns<T, kTerms, kDk>(rule, place, slice, dout, dv, begin, shared, sums);
  }
  // The last barrier was behind everything that reads C and X.
  sums.p.ForEach(
      [&](int i, int j, float& x) { shared.system[i * kSquare + j] = j <= i ? x * rows.Decay(i, j) : 0.0F; });
  sums.m.ForEach(
      [&](int i, int j, float& x) { shared.inverse[i * kSquare + j] = j < i ? -x * rows.Decay(i, j) : 0.0F; });
  float last[2] = {0.0F, 0.0F};  // of what the rows add to the state that leaves
  sums.k_column.AddRowSums(last, [&](int i, int j, float x) { return k(i, j) * x; });
  const float of_last = device::BlockSum<kWarps>(rows.kept * sums.state_sum + last[0] + last[1], shared.block_sums);
  sums.k_row.ForEach([&](int /*i*/, int /*j*/, float& x) { x = -x; });
  StoreRowSums<Part<kChunkRows, kSmall>>(sums.dbeta, shared.row_sums);
  __syncthreads();
  if (threadIdx.x < rows.rows) {
    const int64_t at = (slice.row + place.first + threadIdx.x) * rule.value_heads + place.head;
    dbeta[at] = rows.real[threadIdx.x] * (shared.row_sums[0][threadIdx.x] + shared.row_sums[1][threadIdx.x]);
  }
  const Tile<kSquare> dp{shared.system};
  const Tile<kSquare> m{shared.inverse};
  sums.q.template Add<kTerms, kChunkRows>(dp, k);
  sums.k_row.template Add<kTerms, kChunkRows>(m, k);
  sums.k_column.template Add<kTerms, kChunkRows>(TransposedTile<kSquare>{shared.system}, q);
  sums.k_column.template Add<kTerms, kChunkRows>(TransposedTile<kSquare>{shared.inverse}, k);
  float db[2] = {0.0F, 0.0F};
  sums.q.AddRowSums(db, [&](int i, int j, float x) { return q(i, j) * x; });
  sums.k_row.AddRowSums(db, [&](int i, int j, float x) { return k(i, j) * x; });
  sums.k_column.AddRowSums(db, [&](int i, int j, float x) { return -k(i, j) * x; });
  __syncthreads();
  StoreRowSums<Keys>(db, shared.row_sums);
  sums.q.ForEach([&](int i, int j, float& x) {
    if (j < rule.dk) {
      rule.dq[(place.at * kChunkRows + i) * rule.dk + j] = rule.scale * x;
    }
  });
  // The two parts of a key's gradient lie at the same elements of this thread.
#pragma unroll
  for (int n = 0; n < Keys::kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums.k_row.c[n][i] += sums.k_column.c[n][i];
    }
  }
  sums.k_row.ForEach([&](int i, int j, float& x) {
    if (j < rule.dk) {
      rule.dk_of_head[(place.at * kChunkRows + i) * rule.dk + j] = x;
    }
  });
  __syncthreads();
  if (threadIdx.x < kChunkRows) {
    shared.db[threadIdx.x] = shared.row_sums[0][threadIdx.x] + shared.row_sums[1][threadIdx.x];
  }
  __syncthreads();
  StoreDecays(rule, slice, place, shared, of_last, dg);
}

// Gradients of q and k: those of the value heads of a key head, added in order.
template <typename T>
__global__ void __launch_bounds__(kThreads) AddHeadsKernel(const Rule<T> rule, T* dq, T* dk) {
  const int64_t chunk = blockIdx.x / rule.key_heads;
  const auto key_head = static_cast<int>(blockIdx.x % rule.key_heads);
  const int share = rule.value_heads / rule.key_heads;
  const ChunkPlace place(rule, chunk, key_head * share);
  const Slice slice(rule.layout, place.slice);
  const int32_t count = min(kChunkRows, slice.rows - place.first);
  const int64_t key = KeyAt(rule, slice, place);
  const int64_t of_head = int64_t{kChunkRows} * rule.dk;
  for (int x = static_cast<int>(threadIdx.x); x < count * rule.dk; x += kThreads) {
    float q = 0.0F;
    float k = 0.0F;
    for (int head = 0; head < share; ++head) {
      q += rule.dq[(place.at + head) * of_head + x];
      k += rule.dk_of_head[(place.at + head) * of_head + x];
    }
    const int64_t to = key + int64_t{1} * (x / rule.dk) * rule.key_heads * rule.dk + x % rule.dk;
    dq[to] = static_cast<T>(q);
    dk[to] = static_cast<T>(k);
  }
}

}  // namespace ksa::cuda_delta
