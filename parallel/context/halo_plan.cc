#include "parallel/context/halo_plan.h"

#include <algorithm>

#include "parallel/context/slices.h"

namespace ksa {
namespace {

// What `rank` receives: run by run, the slices that hold a part of the tokens before it.
std::vector<HaloPiece> NeedsOf(const SummaryLayout& whole, int32_t reach, const ContextSlices& slices, int rank) {
  std::vector<HaloPiece> needs;
  int32_t run = 0;
  for (const Range& own : slices.RunsOf(rank)) {
    const int32_t first = own.begin * whole.chunk_size;
    const int32_t begin = std::max(0, first - reach);
    for (int slice = 0; slice < slices.slices(); ++slice) {
      const Range chunks = slices.Chunks(slice);
      const HaloPiece piece = {.peer = slices.Owner(slice),
                               .run = run,
                               .begin = std::max(begin, chunks.begin * whole.chunk_size),
                               .end = std::min(first, chunks.end * whole.chunk_size)};
      if (piece.begin < piece.end) {
        needs.push_back(piece);
        needs.back().before = first - piece.begin;
      }
    }
    ++run;
  }
  return needs;
}

}  // namespace

HaloPlan PlanHalo(const SummaryLayout& whole, int32_t reach, int ranks, int rank) {
  const ContextSlices slices(whole.chunks(), ranks);
  HaloPlan plan;
  plan.receives = NeedsOf(whole, reach, slices, rank);
  for (int peer = 0; peer < ranks; ++peer) {
    for (HaloPiece need : NeedsOf(whole, reach, slices, peer)) {
      if (need.peer == rank) {
        need.peer = peer;
        plan.sends.push_back(need);
      }
    }
  }
  return plan;
}

int32_t TextRowOf(const SummaryLayout& local, int32_t token) {
  return PlaceOf(local, token / local.chunk_size) * local.chunk_size + token % local.chunk_size;
}

}  // namespace ksa
