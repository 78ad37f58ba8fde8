// Gradients of text queries on sm_90a: the forward's tiles again, with three products a tile of keys:
//   scores = q·kᵀ,  weight gradients = dout·vᵀ,  dq += (weights ∘ (weight gradients - delta))·k
// Each consumer warpgroup holds 64 queries; while it computes exponentials the other one's products run.
#include <type_traits>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/wgmma/tile.cuh"
#include "kernels/core/cuda.h"
#include "kernels/device/tensor_map.cuh"

namespace ksa::cuda_attention::wgmma {
namespace {

struct BackwardQueriesRows {
  const float* lse;
  const float* delta;
  BFloat16* dq;
};

// Of this thread's two rows. A row that sees nothing has lse +infinity here: its weights become exactly 0.
struct RowInputs {
  float lse_log2[2];
  float delta[2];
};

// Keys are held twice as long as values: for the scores and, a tile later, for dq. With keys of 192 there is room for
// one tile less of each.
template <int kHeadDim, int kValueDim>
using BackwardShared = SharedMemory<kHeadDim, kValueDim, 2, 1, kHeadDim <= 128 ? 3 : 2, kHeadDim <= 128 ? 2 : 1>;

static_assert(sizeof(BackwardShared<192, 128>) <= 227 * 1024, "all that a block of Hopper has");

// What a step must know of its tile of keys from begin to end; the rest is looked up where it is needed.
struct TileKind {
  int32_t number;
  bool masked;
  uint32_t offset;  // bytes, of the half that is meant

  __device__ __forceinline__ TileKind(int32_t t, const KeyTile& tile)
      : number(t), masked(tile.masked), offset(HalfOffset(tile)) {}
};

template <int kHeadDim>
struct QueriesConsumer {
  using Shared = BackwardShared<kHeadDim, kHeadDim>;
  using Sums = float[kHeadDim / 2];
  Shared& shared;
  float scale_log2;
  uint32_t group;
  uint64_t queries;  // descriptors: of this warpgroup's rows, and of slot 0 of each ring
  uint64_t douts;
  uint64_t keys;
  uint64_t key_rows;  // keys with their rows as depth
  uint64_t values;
  typename Shared::KeyRing key_slot;  // of the tile whose scores are next; dq is a tile behind
  typename Shared::ValueRing value_slot;
  bool sums_half = false;    // of the tile whose part of dq is next
  uint32_t sums_offset = 0;  // bytes, of its half

  // Of the tile whose part of dq is next, while the scores of the tile behind it are.
  [[nodiscard]] __device__ __forceinline__ uint32_t SumsSlot() const {
    return (key_slot.uses - 1) % Shared::KeyRing::kSize;
  }

  __device__ __forceinline__ void AwaitTile() {
    device::Wait(&shared.keys_full[key_slot.slot()], key_slot.phase());
    device::Wait(&shared.values_full[value_slot.slot()], value_slot.phase());
  }

  template <int kCount>
  __device__ __forceinline__ void StartScores(float (&scores)[kCount], const TileKind& tile) {
    IssueScores<kHeadDim>(scores, queries, device::Advance(keys, key_slot.slot() * Shared::Tile::kBytes + tile.offset));
    device::WgmmaCommit();
  }

  // Weight gradients of the tile whose scores are done; exponentials are computed while that product runs. Leaves the
  // gradients of the scores, divided by their scale.
  template <int kCount>
  __device__ __forceinline__ void Weigh(float (&scores)[kCount],
                                        const RowKeys* rows,
                                        const TileKind& tile,
                                        const RowInputs& inputs) {
    float gradients[kCount];
    device::WgmmaFence();
    IssueScores<kHeadDim>(
        gradients, douts, device::Advance(values, value_slot.slot() * Shared::Tile::kBytes + tile.offset));
    device::WgmmaCommit();
    if (tile.masked) {  // plan and rows stay in shared memory: registers are scarce here
      const RowKeys both[2] = {rows[0], rows[8]};
      MaskScores(scores, both, shared.plans[0].Tile(tile.number, shared.seen[0][group]));
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      scores[j] = device::Exp2(fmaf(scores[j], scale_log2, -inputs.lse_log2[j / 2 % 2]));
    }
    float some[kCount / 4];
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j) {
      some[j] = scores[4 * j + 3];
    }
    HoldWaitFor(some, &shared.queries_empty[0]);
    device::WgmmaWait<0>();
    device::Pin(gradients);
    ReleaseSlot(&shared.values_empty[value_slot.slot()]);
    value_slot.Next();
    key_slot.Next();
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      scores[j] *= gradients[j] - inputs.delta[j / 2 % 2];
    }
    sums_half = kCount == 32;
    sums_offset = tile.offset;
  }

  template <bool kHalf>
  __device__ __forceinline__ void StartSums(Sums& sums, const Weights& weights, bool accumulate) {
    IssueWeightedSum<kHeadDim, kHalf ? kTileKeys / 32 : kTileKeys / 16>(
        sums, weights, device::Advance(key_rows, SumsSlot() * Shared::Tile::kBytes + sums_offset), accumulate);
    device::WgmmaCommit();
  }

  __device__ __forceinline__ void FinishSums(Sums& sums, Weights& weights) {
    device::Pin(sums);
    PinWeights(weights);
    ReleaseSlot(&shared.keys_empty[SumsSlot()]);
  }

  template <bool kHalf>
  __device__ __forceinline__ void First(const TileKind& tile,
                                        const RowKeys* rows,
                                        const RowInputs& inputs,
                                        Weights& weights) {
    float scores[kHalf ? 32 : 64];
    AwaitTile();
    device::WgmmaFence();
    StartScores(scores, tile);
    device::WgmmaWait<0>();
    device::Pin(scores);
    Weigh(scores, rows, tile, inputs);
    PackWeights(weights, scores);
  }

  // dq of the tile before and scores of this one in one go; then its weights.
  template <bool kHalf, bool kSumsHalf>
  __device__ __forceinline__ void Step(
      const TileKind& tile, const RowKeys* rows, const RowInputs& inputs, Sums& sums, Weights& weights) {
    float scores[kHalf ? 32 : 64];  // not kept from one tile to the next, for registers
    AwaitTile();
    device::WgmmaFence();
    StartSums<kSumsHalf>(sums, weights, tile.number > 1);
    StartScores(scores, tile);
    device::WgmmaWait<0>();  // frees the registers of the weights for the weight gradients
    device::Pin(scores);
    FinishSums(sums, weights);
    Weigh(scores, rows, tile, inputs);
    PackWeights(weights, scores);
  }

  template <bool kSumsHalf>
  __device__ __forceinline__ void Last(bool accumulate, Sums& sums, Weights& weights) {
    device::WgmmaFence();
    StartSums<kSumsHalf>(sums, weights, accumulate);
    device::WgmmaWait<0>();
    FinishSums(sums, weights);
  }

  // All tiles of an item. `rows` lies in shared memory.
  __device__ __forceinline__ void Run(const RowKeys* rows, const RowInputs& inputs, Sums& sums) {
    const QueryTilePlan& plan = shared.plans[0];
    const int32_t tiles = plan.tiles();
    Weights weights;
    KeyTile tile = plan.Tile(0, shared.seen[0][group]);
    if (tile.half) {
      First<true>({0, tile}, rows, inputs, weights);
    } else {
      First<false>({0, tile}, rows, inputs, weights);
    }
#pragma unroll 1
    for (int32_t t = 1; t < tiles; ++t) {
      tile = plan.Tile(t, shared.seen[0][group]);
      if (!tile.half && !sums_half) {
        Step<false, false>({t, tile}, rows, inputs, sums, weights);
      } else if (!tile.half) {
        Step<false, true>({t, tile}, rows, inputs, sums, weights);
      } else if (!sums_half) {
        Step<true, false>({t, tile}, rows, inputs, sums, weights);
      } else {
        Step<true, true>({t, tile}, rows, inputs, sums, weights);
      }
    }
    device::Arrive(&shared.queries_empty[0]);
    if (sums_half) {
      Last<true>(tiles > 1, sums, weights);
    } else {
      Last<false>(tiles > 1, sums, weights);
    }
  }
};

// The same where dq takes 96 registers and values are narrower than keys: keys are taken 64 at a time, in pieces of a
// tile, which are one or two.
template <int kHeadDim, int kValueDim>
struct WideQueriesConsumer {
  using Shared = BackwardShared<kHeadDim, kValueDim>;
  using Sums = float[kHeadDim / 2];
  static constexpr int kCount = 32;  // scores of a thread

  struct Piece {
    int32_t tile;
    KeyTile keys;     // half a tile
    uint32_t offset;  // bytes to it in a tile of keys or of values
    uint32_t key_slot;
    bool ends_tile;
  };

  Shared& shared;
  float scale_log2;
  uint32_t group;
  uint64_t queries;  // descriptors: of this warpgroup's rows, and of slot 0 of each ring
  uint64_t douts;
  uint64_t keys;
  uint64_t key_rows;  // keys with their rows as depth
  uint64_t values;
  typename Shared::KeyRing key_slot;  // of the piece at work
  typename Shared::ValueRing value_slot;

  // The first piece of tile t, which is awaited.
  [[nodiscard]] __device__ __forceinline__ Piece FirstOf(int32_t t) {
    const KeyTile whole = shared.plans[0].Tile(t, shared.seen[0][group]);
    device::Wait(&shared.keys_full[key_slot.slot()], key_slot.phase());
    device::Wait(&shared.values_full[value_slot.slot()], value_slot.phase());
    return {t, whole, HalfOffset(whole), key_slot.slot(), whole.half};
  }

  // The piece behind `piece`, unless that is the last of the last tile.
  [[nodiscard]] __device__ __forceinline__ Piece Next(const Piece& piece) {
    if (piece.ends_tile) {
      return FirstOf(piece.tile + 1);
    }
    Piece next = piece;
    next.keys.first += kTileKeys / 2;
    next.offset = kTileKeys / 2 * 128;
    next.ends_tile = true;
    return next;
  }

  __device__ __forceinline__ void IssuePairs(const Piece& piece,
                                             float (&scores)[kCount],
                                             float (&gradients)[kCount]) const {
    IssueScores<kHeadDim>(scores, queries, device::Advance(keys, piece.key_slot * Shared::Tile::kBytes + piece.offset));
    IssueScores<kValueDim>(
        gradients, douts, device::Advance(values, value_slot.slot() * Shared::ValueTile::kBytes + piece.offset));
  }

  __device__ __forceinline__ void IssueSums(const Piece& piece,
                                            Sums& sums,
                                            const Weights& weights,
                                            bool accumulate) const {
    IssueWeightedSum<kHeadDim, kTileKeys / 32>(
        sums, weights, device::Advance(key_rows, piece.key_slot * Shared::Tile::kBytes + piece.offset), accumulate);
  }

  // Once the products of a piece are done: gradients of its scores, divided by their scale, as operands.
  __device__ __forceinline__ void Weigh(const Piece& piece,
                                        const RowKeys* rows,
                                        const RowInputs& inputs,
                                        float (&scores)[kCount],
                                        const float (&gradients)[kCount],
                                        Weights& weights) {
    if (piece.ends_tile) {
      ReleaseSlot(&shared.values_empty[value_slot.slot()]);
      value_slot.Next();
      key_slot.Next();
    }
    if (piece.keys.masked) {
      const RowKeys both[2] = {rows[0], rows[8]};
      MaskScores(scores, both, piece.keys);
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      scores[j] = device::Exp2(fmaf(scores[j], scale_log2, -inputs.lse_log2[j / 2 % 2]));
      scores[j] *= gradients[j] - inputs.delta[j / 2 % 2];
    }
    PackWeights(weights, scores);
  }

  __device__ __forceinline__ void FinishSums(const Piece& piece, Sums& sums, Weights& weights) {
    device::Pin(sums);
#pragma unroll
    for (int step = 0; step < kTileKeys / 32; ++step) {
      device::Pin(weights[step]);
    }
    if (piece.ends_tile) {
      ReleaseSlot(&shared.keys_empty[piece.key_slot]);
    }
  }

  // All tiles of an item. `rows` lies in shared memory. The dq of a piece and the scores of the next one go together.
  __device__ __forceinline__ void Run(const RowKeys* rows, const RowInputs& inputs, Sums& sums) {
    const int32_t tiles = shared.plans[0].tiles();
    Weights weights;
    Piece piece = FirstOf(0);
    {
      float scores[kCount];
      float gradients[kCount];
      device::WgmmaFence();
      IssuePairs(piece, scores, gradients);
      device::WgmmaCommit();
      device::WgmmaWait<0>();
      device::Pin(scores);
      device::Pin(gradients);
      Weigh(piece, rows, inputs, scores, gradients, weights);
    }
    bool accumulate = false;
#pragma unroll 1
    while (piece.tile + 1 < tiles || !piece.ends_tile) {
      const Piece last = piece;
      piece = Next(last);
      float scores[kCount];
      float gradients[kCount];
      device::WgmmaFence();
      IssueSums(last, sums, weights, accumulate);
      IssuePairs(piece, scores, gradients);
      device::WgmmaCommit();
      device::WgmmaWait<0>();
      device::Pin(scores);
      device::Pin(gradients);
      FinishSums(last, sums, weights);
      Weigh(piece, rows, inputs, scores, gradients, weights);
      accumulate = true;
    }
    device::Arrive(&shared.queries_empty[0]);
    device::WgmmaFence();
    IssueSums(piece, sums, weights, accumulate);
    device::WgmmaCommit();
    device::WgmmaWait<0>();
    FinishSums(piece, sums, weights);
  }
};

template <int kHeadDim, int kValueDim>
__device__ __forceinline__ void Consume(BackwardShared<kHeadDim, kValueDim>& shared,
                                        const QueryProblem& problem,
                                        const BackwardQueriesRows& data) {
  const uint32_t group = ConsumerGroup();
  const uint32_t row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + group * 64;
  using Consumer =
      std::conditional_t<kHeadDim == kValueDim, QueriesConsumer<kHeadDim>, WideQueriesConsumer<kHeadDim, kValueDim>>;
  Consumer consumer{.shared = shared,
                    .scale_log2 = problem.scale_log2,
                    .group = group,
                    .queries = DepthAlongColumns(shared.queries[0].q, group * 64),
                    .douts = DepthAlongColumns(shared.queries[0].dout, group * 64),
                    .keys = DepthAlongColumns(shared.keys[0]),
                    .key_rows = DepthAlongRows(shared.keys[0]),
                    .values = DepthAlongColumns(shared.values[0])};
  uint32_t phase = 0;
#pragma unroll 1
  for (int32_t round = 0;; ++round) {
    const int32_t index = ItemIndex(round, blockIdx.x, gridDim.x);
    if (index >= problem.items) {
      break;
    }
    const QueryItem item = ItemAt(problem, index);
    const int64_t element = problem.layout.TextRow(item.sequence, item.first) * problem.heads + item.head;
    RowInputs inputs;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool inside = item.first + static_cast<int32_t>(row) + 8 * i < problem.queries.end;
      const int64_t at = element + int64_t{row + 8 * i} * problem.heads;
      inputs.lse_log2[i] = inside ? data.lse[at] * 1.44269504F : -INFINITY;
      inputs.delta[i] = inside ? data.delta[at] : 0.0F;
    }
    device::Wait(&shared.queries_full[0], phase);
    phase ^= 1;
    const RowKeys* rows = shared.rows[0] + row;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool live = rows[8 * i].text.size() > 0;
      inputs.lse_log2[i] = live ? inputs.lse_log2[i] : INFINITY;
      inputs.delta[i] = live ? inputs.delta[i] : 0.0F;
    }
    float sums[kHeadDim / 2];
    consumer.Run(rows, inputs, sums);
    const auto first = static_cast<int32_t>((threadIdx.x - 128) / 32 * 16);  // of this warp
    const float factor[2] = {problem.scale, problem.scale};
    StoreRows<kHeadDim>(sums,
                        factor,
                        data.dq + (element + int64_t{first} * problem.heads) * kHeadDim,
                        int64_t{problem.heads} * kHeadDim,
                        problem.queries.end - item.first - first);
  }
}

template <int kHeadDim, int kValueDim>
__global__ void __launch_bounds__(kBlockThreads, 1)
    WgmmaBackwardQueriesKernel(const __grid_constant__ QueryMaps maps,
                               const __grid_constant__ QueryProblem problem,
                               const BackwardQueriesRows data) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t dynamic[];
  auto& shared = *reinterpret_cast<BackwardShared<kHeadDim, kValueDim>*>(dynamic);
  InitAllBarriers(shared);
  if (threadIdx.x < 128) {
    device::ShrinkRegisters<24>();
    Produce<2>(shared, problem, maps);
  } else {
    device::GrowRegisters<240>();
    Consume(shared, problem, data);
  }
#endif
}

template <int kHeadDim, int kValueDim>
void Launch(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const QueryProblem problem = MakeQueryProblem(args.layout, args.window, args.q, args.k, ScaleOf(args));
  if (stream.dry || problem.items == 0) {
    return;
  }
  QueryMaps maps{};
  maps.q = cuda::MakeTensorMap(args.q, kTileRows);
  maps.dout = cuda::MakeTensorMap(args.dout, kTileRows);
  maps.k = cuda::MakeTensorMap(args.k, kTileKeys);
  maps.v = cuda::MakeTensorMap(args.v, kTileKeys);
  const auto blocks = static_cast<unsigned>(PersistentBlocks(problem, stream.device));
  cuda::Launch("WgmmaBackwardQueriesKernel",
               stream,
               {dim3(blocks), dim3(kBlockThreads), sizeof(BackwardShared<kHeadDim, kValueDim>)},
               WgmmaBackwardQueriesKernel<kHeadDim, kValueDim>,
               maps,
               problem,
               BackwardQueriesRows{args.lse.As<float>(), delta.As<float>(), args.dq.As<BFloat16>()});
}

}  // namespace

void BackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const int64_t dim = args.q.shape[2];
  if (dim == 64) {
    Launch<64, 64>(args, delta, stream);
  } else if (dim == 128) {
    Launch<128, 128>(args, delta, stream);
  } else {
    Launch<192, 128>(args, delta, stream);
  }
}

}  // namespace ksa::cuda_attention::wgmma
