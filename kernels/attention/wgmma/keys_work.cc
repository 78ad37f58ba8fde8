#include "kernels/attention/wgmma/keys_work.h"

#include <algorithm>

namespace ksa::cuda_attention::wgmma {
namespace {

// The number of blocks that work is divided for: a constant, so that the order of additions is the same on every
// device.
constexpr int kPlannedBlocks = 132;
// An item of fewer blocks isn't worth its partial sums.
constexpr int kSmallestPart = 24;

Tensor EmptyArray(int64_t count, int64_t bytes, Allocator& allocator) {
  return Tensor::Empty({count, bytes / int64_t{sizeof(int32_t)}}, DType::kI32, allocator);
}

}  // namespace

KeyWork MakeKeyWork(const AttentionBackwardArgs& args) {
  KeyWork work{};
  work.problem = MakeProblem(args);
  work.value_dim = static_cast<int32_t>(args.v.shape[2]);
  const SummaryLayout& layout = args.layout;
  work.text_tiles = CeilDiv(layout.text_tokens, kTileKeys);
  work.summary_tiles = args.k.rows() > layout.text_rows() ? CeilDiv(layout.live_summaries(), kTileKeys) : 0;
  int64_t blocks = 0;
  for (int32_t tile = 0; tile < work.tiles(); ++tile) {
    blocks += work.ExpectedBlocks(tile) * work.columns();
  }
  // Long items are taken first: one of up to three quarters of a block's share keeps nobody waiting.
  work.part_blocks = static_cast<int32_t>(std::max<int64_t>(kSmallestPart, blocks * 3 / 4 / kPlannedBlocks));
  return work;
}

KeyScratch TakeKeyScratch(const KeyWork& work, Allocator& scratch) {
  KeyScratch taken;
  for (int32_t tile = 0; tile < work.tiles(); ++tile) {
    const int32_t parts = work.Parts(tile);
    taken.item_count += parts * work.columns();
    taken.slots += parts > 1 ? parts * work.columns() : 0;
  }
  taken.plans = EmptyArray(int64_t{work.problem.layout.sequences} * work.tiles(), kKeyTilePlanBytes, scratch);
  taken.items = EmptyArray(taken.item_count, kWorkItemBytes, scratch);
  taken.counter = EmptyArray(1, sizeof(int32_t), scratch);
  taken.parts = Tensor::Empty({taken.slots, kTileKeys * (work.problem.dim + work.value_dim)}, DType::kF32, scratch);
  return taken;
}

}  // namespace ksa::cuda_attention::wgmma
