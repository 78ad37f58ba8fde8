// Kernels of the forward pass, one chunk (or, in the scan, one slice) and value head a block.
#pragma once

#include "kernels/delta_rule/chunk_device.cuh"

namespace ksa::cuda_delta {

template <int kDk>
struct PrepareShared {
  ChunkRows rows;
  alignas(16) float k[kChunkRows * kPitchOf<kDk>];
  alignas(16) float system[kChunkRows * kPitchOf<kChunkRows>];  // C beta
  alignas(16) float inverse[kChunkRows * kPitchOf<kChunkRows>];
  alignas(16) float v[kChunkRows * kPitchOf<kWide>];
};

// inverse = (I + system)^-1, `system` strictly lower triangular, by substitution: four threads a column.
__device__ inline void Invert(const float* system, float* inverse) {
  constexpr int kPitch = kPitchOf<kChunkRows>;
  const int column = static_cast<int>(threadIdx.x) / 4;
  const int part = static_cast<int>(threadIdx.x) % 4;
  for (int i = 0; i < kChunkRows; ++i) {
    float sum = 0.0F;
    for (int m = column + part; m < i; m += 4) {
      sum += system[i * kPitch + m] * inverse[m * kPitch + column];
    }
    sum += __shfl_xor_sync(0xffffffffU, sum, 1);
    sum += __shfl_xor_sync(0xffffffffU, sum, 2);
    if (part == 0) {
      inverse[i * kPitch + column] = i == column ? 1.0F : i < column ? 0.0F : -sum;
    }
    __syncwarp();
  }
}

// Everything of a chunk that the state has no part in: the inverse of its system, W, and X V, where e waits for it.
template <typename T, int kTerms, int kDk>
__global__ void __launch_bounds__(kThreads) PrepareKernel(const Rule<T> rule) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<PrepareShared<kDk>*>(memory);
  const ChunkPlace place(rule, blockIdx.x / rule.value_heads, static_cast<int>(blockIdx.x % rule.value_heads));
  const Slice slice(rule.layout, place.slice);
  const ChunkRows& rows = shared.rows;
  shared.rows.Make(rule, slice, place.first, place.head);
  LoadRows<kDk>(rows, rule.k + KeyAt(rule, slice, place), int64_t{1} * rule.key_heads * rule.dk, rule.dk, shared.k);
  __syncthreads();
  using Square = Part<kChunkRows, kChunkRows>;
  constexpr int kPitch = kPitchOf<kChunkRows>;
  const Tile<kPitchOf<kDk>> k{shared.k};
  Square square;
  square.Clear();
  square.template Add<kTerms, kDk>(k, TransposedTile<kPitchOf<kDk>>{shared.k});
  square.ForEach([&](int i, int j, float& x) {
    shared.system[i * kPitch + j] = j < i ? x * rows.Decay(i, j) * rows.beta[j] : 0.0F;
  });
  __syncthreads();
  Invert(shared.system, shared.inverse);
  __syncthreads();
  float* inverse = rule.inverse + place.at * (kChunkRows * kChunkRows);
  for (int x = static_cast<int>(threadIdx.x); x < kChunkRows * kChunkRows; x += kThreads) {
    inverse[x] = shared.inverse[x / kChunkRows * kPitch + x % kChunkRows];
  }
  const Tile<kPitch> solve{shared.inverse};
  Part<kChunkRows, kDk> w;
  w.Clear();
  w.template Add<kTerms, kChunkRows>(solve, RowsTimes<Tile<kPitchOf<kDk>>>{k, rows.from_state});
  w.ForEach([&](int i, int j, float& x) { rule.w[(place.at * kChunkRows + i) * kDk + j] = x; });
  for (int x = static_cast<int>(threadIdx.x); x < kChunkRows * kDk; x += kThreads) {
    rule.keys[place.at * kChunkRows * kDk + x] = rows.to_state[x / kDk] * k(x / kDk, x % kDk);
  }
  if (threadIdx.x <= kChunkRows) {
    float* numbers = rule.numbers + place.at * delta_rule::kChunkNumbers;
    numbers[threadIdx.x] = threadIdx.x < kChunkRows ? rows.beta[threadIdx.x] : rows.kept;
  }
  for (int begin = 0; rule.e != nullptr && begin < rule.dv; begin += kWide) {
    __syncthreads();
    LoadRows<kWide>(rows,
                    rule.v + ValueAt(rule, slice, place) + begin,
                    int64_t{1} * rule.value_heads * rule.dv,
                    rule.dv - begin,
                    shared.v);
    __syncthreads();
    Part<kChunkRows, kWide> u;
    u.Clear();
    u.template Add<kTerms, kChunkRows>(solve, Tile<kPitchOf<kWide>>{shared.v});
    u.ForEach([&](int i, int j, float& x) {
      if (begin + j < rule.dv) {
        rule.e[(place.at * kChunkRows + i) * rule.dv + begin + j] = x;
      }
    });
  }
}

// What scans have of a chunk. Two: one is filled while the other is used.
template <int kDk>
struct ChunkTiles {
  alignas(16) float keys[kChunkRows * kPitchOf<kDk>];
  alignas(16) float w[kChunkRows * kPitchOf<kDk>];
  alignas(16) float numbers[delta_rule::kChunkNumbers];

  // Queues the copies of chunk and head `at`, as a group.
  template <typename T>
  __device__ void Fill(const Rule<T>& rule, int64_t at) {
    CopyTile<kChunkRows, kDk>(rule.keys + at * kChunkRows * kDk, keys);
    CopyTile<kChunkRows, kDk>(rule.w + at * kChunkRows * kDk, w);
    if (threadIdx.x < delta_rule::kChunkNumbers / 4) {
      CopyPiece(rule.numbers + at * delta_rule::kChunkNumbers + 4 * threadIdx.x, numbers + 4 * threadIdx.x);
    }
    device::CommitCopies();
  }
};

template <int kDk>
struct ScanShared {
  ChunkTiles<kDk> chunks[2];
  alignas(16) float state[kDk * kPitchOf<kSmall>];
  alignas(16) float n[kChunkRows * kPitchOf<kSmall>];
};

// What comes in and goes out of a scan over the chunks of each slice. All [slices, value heads, dk, columns].
struct ScanStates {
  const float* first;  // null: zeros, or the identity
  float* last;         // null: nobody wants it
  int columns;
  bool identity;  // there are no values, and the first state is the identity: the last one is the transition
};

// From chunk to chunk: E of each, and the states. A block has kSmall columns of the state: no column knows of others.
template <typename T, int kTerms, int kDk>
__global__ void __launch_bounds__(kThreads) ScanKernel(const Rule<T> rule, const ScanStates states) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<ScanShared<kDk>*>(memory);
  const int begin = static_cast<int>(blockIdx.x) * kSmall;
  const auto head = static_cast<int>(blockIdx.y);
  const Slice slice(rule.layout, blockIdx.z);
  const int columns = states.columns;
  const int64_t of_slice = (int64_t{blockIdx.z} * rule.value_heads + head) * rule.dk * columns;
  using State = Part<kDk, kSmall>;
  constexpr int kPitch = kPitchOf<kSmall>;
  State state;
  state.ForEach([&](int i, int j, float& x) {
    const bool there = i < rule.dk && begin + j < columns;
    x = there && states.first != nullptr ? states.first[of_slice + int64_t{i} * columns + begin + j] : 0.0F;
    x = states.identity && i == begin + j ? 1.0F : x;
    shared.state[i * kPitch + j] = x;
  });
  const int64_t first_chunk = FirstChunk(rule, blockIdx.z);
  const int32_t chunks = slice.chunks();
  const auto place_of = [&](int32_t c) { return (first_chunk + c) * rule.value_heads + head; };
  shared.chunks[0].Fill(rule, place_of(0));
  using Rows = Part<kChunkRows, kSmall>;
  for (int32_t c = 0; c < chunks; ++c) {
    const int64_t at = place_of(c);
    const ChunkTiles<kDk>& chunk = shared.chunks[c % 2];
    device::WaitForCopies<0>();
    __syncthreads();  // the chunk's tiles and the state are there, and nobody reads the tiles of the chunk before
    if (c + 1 < chunks) {
      shared.chunks[(c + 1) % 2].Fill(rule, place_of(c + 1));
    }
    Rows e;
    e.ForEach([&](int i, int j, float& x) {
      const bool there = rule.e != nullptr && begin + j < columns;
      x = there ? rule.e[(at * kChunkRows + i) * columns + begin + j] : 0.0F;
    });
    if (rule.states != nullptr) {
      state.ForEach([&](int i, int j, float& x) {
        if (i < rule.dk && begin + j < columns) {
          rule.states[(at * rule.dk + i) * columns + begin + j] = x;
        }
      });
    }
    Rows predicted;
    predicted.Clear();
    predicted.template Add<kTerms, kDk>(Tile<kPitchOf<kDk>>{chunk.w}, Tile<kPitch>{shared.state});
    e.Subtract(predicted);
    e.ForEach([&](int i, int j, float& x) {
      if (rule.e != nullptr && begin + j < columns) {
        rule.e[(at * kChunkRows + i) * columns + begin + j] = x;
      }
      shared.n[i * kPitch + j] = chunk.numbers[i] * x;
    });
    __syncthreads();
    const float kept = chunk.numbers[kChunkRows];
    state.ForEach([&](int /*i*/, int /*j*/, float& x) { x *= kept; });
    state.template Add<kTerms, kChunkRows>(TransposedTile<kPitchOf<kDk>>{chunk.keys}, Tile<kPitch>{shared.n});
    state.ForEach([&](int i, int j, float& x) { shared.state[i * kPitch + j] = x; });
  }
  state.ForEach([&](int i, int j, float& x) {
    if (states.last != nullptr && i < rule.dk && begin + j < columns) {
      states.last[of_slice + int64_t{i} * columns + begin + j] = x;
    }
  });
}

template <int kDk>
struct OutputShared {
  ChunkRows rows;
  alignas(16) float q[kChunkRows * kPitchOf<kDk>];
  alignas(16) float k[kChunkRows * kPitchOf<kDk>];
  alignas(16) float p[kChunkRows * kPitchOf<kChunkRows>];
  alignas(16) float e[kChunkRows * kPitchOf<kWide>];
  alignas(16) float state[kDk * kPitchOf<kWide>];
};

// P = tril(Q K^T) * D, of rows in shared memory.
template <int kTerms, int kDk>
__device__ void MakeScores(const ChunkRows& rows, const float* q, const float* k, float* p) {
  Part<kChunkRows, kChunkRows> square;
  square.Clear();
  square.template Add<kTerms, kDk>(Tile<kPitchOf<kDk>>{q}, TransposedTile<kPitchOf<kDk>>{k});
  square.ForEach(
      [&](int i, int j, float& x) { p[i * kPitchOf<kChunkRows> + j] = j <= i ? x * rows.Decay(i, j) : 0.0F; });
}

template <typename T, int kTerms, int kDk>
__global__ void __launch_bounds__(kThreads) OutputKernel(const Rule<T> rule, T* out) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<OutputShared<kDk>*>(memory);
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
  constexpr int kPitch = kPitchOf<kWide>;
  for (int begin = 0; begin < rule.dv; begin += kWide) {
    __syncthreads();
    LoadMatrix<kChunkRows, kWide>(rule.e + place.at * kChunkRows * rule.dv, kChunkRows, rule.dv, begin, shared.e);
    LoadMatrix<kDk, kWide>(rule.states + place.at * rule.dk * rule.dv, rule.dk, rule.dv, begin, shared.state);
    __syncthreads();
    Part<kChunkRows, kWide> o;
    o.Clear();
    o.template Add<kTerms, kDk>(RowsTimes<Tile<kPitchOf<kDk>>>{{shared.q}, rows.from_state},
                                Tile<kPitch>{shared.state});
    o.template Add<kTerms, kChunkRows>(Tile<kPitchOf<kChunkRows>>{shared.p},
                                       RowsTimes<Tile<kPitch>>{{shared.e}, rows.beta});
    T* to = out + ValueAt(rule, slice, place) + begin;
    o.ForEach([&](int i, int j, float& x) {
      if (i < rows.rows && begin + j < rule.dv) {
        to[int64_t{1} * i * rule.value_heads * rule.dv + j] = static_cast<T>(x);
      }
    });
  }
}

}  // namespace ksa::cuda_delta
