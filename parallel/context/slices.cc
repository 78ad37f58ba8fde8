#include "parallel/context/slices.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace ksa {

ContextSlices::ContextSlices(int32_t chunks, int ranks) : chunks_(chunks), ranks_(ranks) {
  KSA_CHECK(ranks >= 1, "context parallelism over {} ranks", ranks);
  KSA_CHECK(ranks == 1 || chunks >= 2 * ranks,
            "context parallelism over {} ranks cuts a sequence into {} slices of whole chunks, but it has {} chunks",
            ranks,
            2 * ranks,
            chunks);
}

Range ContextSlices::Chunks(int slice) const {
  const auto cut = [&](int64_t s) { return static_cast<int32_t>(s * chunks_ / slices()); };
  return {cut(slice), cut(slice + 1)};
}

std::array<Range, 2> ContextSlices::ChunksOf(int rank) const {
  KSA_CHECK(0 <= rank && rank < ranks_, "context rank {} of {}", rank, ranks_);
  return {Chunks(rank), Chunks(slices() - 1 - rank)};
}

std::vector<Range> ContextSlices::RunsOf(int rank) const {
  const auto [lower, upper] = ChunksOf(rank);
  return lower.end == upper.begin ? std::vector<Range>{{lower.begin, upper.end}} : std::vector<Range>{lower, upper};
}

int32_t TokensOf(const SummaryLayout& whole, Range chunks) {
  const auto tokens = [&](int64_t chunk) {
    return static_cast<int32_t>(std::min<int64_t>(chunk * whole.chunk_size, whole.text_tokens));
  };
  return tokens(chunks.end) - tokens(chunks.begin);
}

SummaryLayout MakeLocalLayout(const SummaryLayout& whole, int ranks, int rank) {
  KSA_CHECK(whole.total() == whole.text_tokens && whole.first_chunk == 0 && whole.AllTextIsQuery(),
            "a part of a sequence is not divided among ranks again");
  if (ranks == 1) {
    return whole;
  }
  const auto [lower, upper] = ContextSlices(whole.chunks(), ranks).ChunksOf(rank);
  SummaryLayout local = whole;
  local.text_tokens = TokensOf(whole, lower) + TokensOf(whole, upper);
  local.total_tokens = whole.text_tokens;
  local.first_chunk = lower.begin;
  local.run_chunks = lower.size();
  local.second_chunk = upper.begin;
  local.live_chunks = 0;
  for (const Range& slice : {lower, upper}) {
    local.live_chunks += Range{slice.begin, std::min(slice.end, whole.live_chunks)}.size();
  }
  return local;
}

int32_t PlaceOf(const SummaryLayout& local, int32_t chunk) {
  const int32_t place = chunk - local.first_chunk;
  return place < local.run_chunks ? place : local.run_chunks + (chunk - local.second_chunk);
}

std::vector<RowSegment> SegmentsOf(const SummaryLayout& whole, int ranks, int rank, bool summaries) {
  const std::vector<Range> runs = ContextSlices(whole.chunks(), ranks).RunsOf(rank);
  std::vector<RowSegment> segments;
  int64_t local = 0;
  const auto append = [&](int64_t first, int64_t rows) {
    if (rows > 0) {
      segments.push_back({local, first, rows});
      local += rows;
    }
  };
  for (int32_t q = 0; q < whole.sequences; ++q) {
    for (const Range& run : runs) {
      append(whole.TextRow(q, run.begin * whole.chunk_size), TokensOf(whole, run));
    }
  }
  for (int32_t q = 0; summaries && q < whole.sequences; ++q) {
    for (const Range& run : runs) {
      const Range live = {run.begin, std::min(run.end, whole.live_chunks)};
      append(whole.SummaryRow(q, live.begin * whole.summary_tokens), int64_t{1} * live.size() * whole.summary_tokens);
    }
  }
  return segments;
}

}  // namespace ksa
