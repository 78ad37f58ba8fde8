// The attention problems that every path of the GPU has to solve.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/kernels/attention/attention_case.h"

namespace ksa::testing {

struct CaseSizes {
  int32_t tokens;
  int32_t chunk_size;
  int32_t summary_tokens;
  int64_t heads = 2;
  int64_t groups = 1;
  int64_t dim = 64;
  int32_t sequences = 1;
};

// As many chunks are live as the window needs, or all of them.
inline AttentionCase GpuCase(const CaseSizes& sizes, const AttentionWindow& window, bool all_live = false) {
  AttentionCase c;
  c.layout = {.sequences = sizes.sequences,
              .text_tokens = sizes.tokens,
              .chunk_size = sizes.chunk_size,
              .summary_tokens = sizes.summary_tokens};
  c.window = window;
  c.heads = sizes.heads;
  c.groups = sizes.groups;
  c.dim = sizes.dim;
  const int32_t seen = window.summaries ? LiveChunks(c.layout.chunks(), window.chunks) : 0;
  c.layout.live_chunks = all_live ? c.layout.chunks() : seen;
  return c;
}

inline AttentionCase WithoutSummaryQueries(AttentionCase c) {
  c.query_summaries = false;
  return c;
}

inline AttentionCase TextOnly(AttentionCase c) {
  c.query_summaries = false;
  c.key_summaries = false;
  return c;
}

// With the values of heads that are made of latents.
inline AttentionCase OfLatents(AttentionCase c) {
  c.value_dim = 128;
  return c;
}

template <typename Length>
AttentionCase Packed(AttentionCase c, Length length) {
  c.layout.live_chunks = c.window.summaries ? LiveChunks(c.layout.chunks(), c.window.chunks) : c.layout.live_chunks;
  c.Pack(length);
  return c;
}

// Chunk sizes, summaries a chunk, windows and lengths against each other.
inline std::vector<AttentionCase> KsaCases() {
  const auto ksa = [](const CaseSizes& sizes, int32_t w, bool all_live = false) {
    return GpuCase(sizes, AttentionWindow::Ksa(w), all_live);
  };
  return {
      ksa({1, 8, 1}, 0),
      ksa({1, 8, 1}, 0, true),
      ksa({7, 8, 1, 3, 1}, 0, true),
      ksa({7, 3, 2, 3, 1, 128}, 0),
      ksa({64, 1, 1, 2, 2}, 0),
      ksa({64, 1, 1, 2, 1, 128}, 16, true),
      ksa({64, 16, 1, 2, 2, 128}, 1),
      ksa({129, 3, 1, 3, 3}, 2),
      ksa({129, 8, 1, 2, 2, 128}, 0),
      ksa({129, 4, 3, 5, 5, 64}, 16),
      ksa({129, 32, 3, 2, 1, 128}, 1, true),
      ksa({192, 8, 2, 1, 1, 128, 3}, 3),
      ksa({1023, 8, 1, 1, 1, 128}, 16),
      ksa({1023, 3, 1, 2, 2, 64}, 16),
      ksa({1023, 4, 2, 3, 1, 128}, 128),
      ksa({1032, 8, 1, 2, 2, 128}, 128),
      ksa({1032, 8, 1, 4, 1, 64}, 2),
      ksa({1032, 1, 1, 1, 1, 128}, 128),
      ksa({1033, 8, 1, 2, 1, 128}, 1),
      ksa({1033, 8, 3, 1, 1, 64}, 0),
      ksa({1033, 16, 1, 2, 2, 128}, 16),
      ksa({1033, 32, 2, 3, 1, 64}, 2),
      ksa({1033, 8, 1, 2, 2, 64}, 15, true),
      ksa({700, 8, 1, 2, 1, 128, 2}, AttentionWindow::kUnlimited - 1, true),
      WithoutSummaryQueries(ksa({500, 8, 1, 2, 2, 128}, 16)),
      WithoutSummaryQueries(ksa({513, 4, 2, 4, 2, 64, 2}, 8)),
  };
}

// Lengths a token around the end of the window, where the first summaries come into sight.
inline std::vector<AttentionCase> WindowEdgeCases() {
  std::vector<AttentionCase> cases;
  for (const int32_t tokens : {255, 256, 257, 264, 265, 272}) {  // w·k = 256, k = 8
    cases.push_back(GpuCase({tokens, 8, 1, 1, 1, 128}, AttentionWindow::Ksa(32)));
    cases.push_back(GpuCase({tokens, 8, 1, 2, 1, 64}, AttentionWindow::Ksa(32), true));
  }
  for (const int32_t tokens : {61, 63, 64, 65}) {  // k does not divide a tile
    cases.push_back(GpuCase({tokens, 3, 2, 2, 2, 128}, AttentionWindow::Ksa(10)));
  }
  return cases;
}

// The other kinds of layer, with and without summary rows beside the text.
inline std::vector<AttentionCase> OtherWindowCases() {
  const AttentionWindow full = AttentionWindow::Full();
  const auto tokens = AttentionWindow::SlidingTokens;
  const auto chunks = AttentionWindow::SlidingChunks;
  return {
      TextOnly(GpuCase({1033, 8, 1, 2, 2, 128}, full)),
      TextOnly(GpuCase({1024, 8, 1, 2, 1, 64}, full)),
      TextOnly(GpuCase({333, 8, 1, 4, 2, 128, 3}, full)),
      GpuCase({1032, 8, 1, 2, 2, 128}, full, true),
      GpuCase({300, 4, 2, 4, 2, 64, 2}, full, true),
      WithoutSummaryQueries(GpuCase({300, 8, 1, 2, 2, 128}, full, true)),
      TextOnly(GpuCase({1033, 8, 1, 2, 2, 128}, tokens(1))),
      TextOnly(GpuCase({1033, 8, 1, 2, 2, 64}, tokens(200))),
      GpuCase({1023, 8, 1, 2, 1, 128}, tokens(129), true),
      GpuCase({129, 16, 3, 3, 3, 64, 2}, tokens(64), true),
      TextOnly(GpuCase({1033, 8, 1, 2, 2, 128}, chunks(0))),
      GpuCase({1023, 3, 1, 2, 1, 64}, chunks(40), true),
      GpuCase({1032, 16, 2, 1, 1, 128}, chunks(8), true),
  };
}

// Many heads, and shares of key/value heads.
inline std::vector<AttentionCase> HeadCases() {
  const AttentionWindow window = AttentionWindow::Ksa(4);
  return {
      GpuCase({150, 8, 1, 3, 1, 128}, window),
      GpuCase({150, 8, 1, 5, 5, 64}, window),
      GpuCase({150, 8, 2, 4, 2, 128}, window),
      GpuCase({150, 8, 1, 16, 16, 128}, window),
      GpuCase({150, 8, 1, 32, 8, 128}, window),
      GpuCase({150, 4, 1, 32, 8, 64, 2}, AttentionWindow::Full(), true),
  };
}

// Several times as many tiles of queries and of keys as a GPU has multiprocessors: persistent blocks go through their
// buffers more than once.
inline std::vector<AttentionCase> ManyTilesCases() {
  return {
      GpuCase({130, 8, 1, 64, 8, 128, 4}, AttentionWindow::Ksa(4)),
      GpuCase({130, 4, 1, 72, 72, 64, 4}, AttentionWindow::Ksa(2), true),
  };
}

// Packed documents: of one token, longer than the window, empty (a chunk of padding), ending inside a chunk.
inline std::vector<AttentionCase> DocumentCases() {
  const auto mixed = [](int32_t i) { return (i + 2) * 37 % 301; };
  const auto small = [](int32_t i) { return std::vector<int32_t>{11, 0, 5, 18, 3, 1}[static_cast<size_t>(i % 6)]; };
  const auto single = [](int32_t) { return 1; };
  return {
      Packed(GpuCase({1033, 8, 1, 2, 2, 128}, AttentionWindow::Ksa(4)), mixed),
      Packed(GpuCase({1032, 8, 1, 2, 1, 64, 2}, AttentionWindow::Ksa(0)), mixed),
      Packed(GpuCase({1023, 3, 2, 1, 1, 128}, AttentionWindow::Ksa(16)), mixed),
      Packed(GpuCase({260, 8, 1, 2, 2, 128}, AttentionWindow::Ksa(1)), small),
      Packed(GpuCase({260, 4, 3, 3, 1, 64}, AttentionWindow::Ksa(0)), small),
      Packed(GpuCase({200, 8, 1, 2, 2, 128}, AttentionWindow::Ksa(2)), single),
      Packed(GpuCase({700, 16, 1, 2, 2, 128}, AttentionWindow::Ksa(128), true), mixed),
      Packed(GpuCase({700, 8, 1, 2, 2, 128}, AttentionWindow::Full(), true), mixed),
      Packed(TextOnly(GpuCase({700, 8, 1, 4, 2, 64, 2}, AttentionWindow::Full())), small),
      Packed(TextOnly(GpuCase({700, 8, 1, 2, 2, 128}, AttentionWindow::SlidingTokens(100))), mixed),
      Packed(GpuCase({700, 8, 1, 2, 2, 64}, AttentionWindow::SlidingChunks(5), true), mixed),
  };
}

// Head dims that only the plain path has; neighbours in the list run in different types.
inline std::vector<AttentionCase> OddHeadDimCases() {
  std::vector<AttentionCase> cases;
  for (const int64_t dim : {1, 6, 33, 40, 80, 96, 200, 300}) {
    for (const int64_t heads : {2, 4}) {
      cases.push_back(GpuCase({150, 8, 1, heads, 2, dim}, AttentionWindow::Ksa(4)));
    }
    for (const int32_t sequences : {1, 2}) {
      cases.push_back(GpuCase({77, 3, 2, 3, 3, dim, sequences}, AttentionWindow::Full(), true));
    }
  }
  return cases;
}

// Entries in the place of summaries, which are keys alone and seen from the end of their chunk on.
inline std::vector<AttentionCase> OverlapCases() {
  const auto overlap = [](const CaseSizes& sizes, int32_t w) {
    AttentionCase c = WithoutSummaryQueries(GpuCase(sizes, AttentionWindow::Hca(w, true)));
    c.layout.live_chunks = LiveChunks(c.layout, c.window);
    return c;
  };
  const auto packed = [](AttentionCase c) {
    const int32_t live = c.layout.live_chunks;
    c.Pack([](int32_t i) { return (i + 2) * 37 % 301; });
    c.layout.live_chunks = live;
    return c;
  };
  return {overlap({1033, 8, 1, 2, 2, 128}, 16),
          overlap({1032, 8, 1, 4, 1, 64}, 0),
          overlap({517, 3, 1, 2, 2, 64, 2}, 5),
          overlap({300, 1, 1, 2, 1, 128}, 40),
          overlap({260, 16, 1, 2, 2, 64}, AttentionWindow::kUnlimited - 1),
          overlap({7, 8, 1, 2, 1, 64}, 0),
          packed(overlap({1033, 8, 1, 2, 1, 64}, 4)),
          packed(overlap({700, 16, 1, 2, 2, 128, 2}, 0))};
}

// Values of another width than keys, as heads made of latents have them, and scales that the head dim does not say.
inline std::vector<AttentionCase> ValueDimCases() {
  const auto with = [](AttentionCase c, int64_t value_dim, double scale = 0.0) {
    c.value_dim = value_dim;
    c.scale = scale;
    return c;
  };
  const AttentionWindow ksa = AttentionWindow::Ksa(4);
  std::vector<AttentionCase> cases = {
      with(TextOnly(GpuCase({513, 8, 1, 2, 2, 192}, AttentionWindow::Full())), 128),
      with(TextOnly(GpuCase({384, 8, 1, 4, 4, 192, 2}, AttentionWindow::Full())), 128),
      with(GpuCase({700, 8, 1, 2, 2, 192}, ksa), 128),
      with(GpuCase({1033, 8, 2, 2, 1, 192}, AttentionWindow::Ksa(16)), 128),
      with(TextOnly(GpuCase({700, 8, 1, 2, 2, 192}, AttentionWindow::SlidingTokens(200))), 128),
      with(GpuCase({300, 8, 1, 2, 2, 192, 2}, AttentionWindow::Full(), true), 128),
      with(GpuCase({300, 4, 1, 2, 2, 192}, AttentionWindow::SlidingChunks(5), true), 128, 0.05),
      with(GpuCase({300, 4, 1, 2, 2, 192}, ksa), 128, 0.05),
      with(GpuCase({200, 8, 1, 2, 1, 128}, ksa), 128, 0.2),
      with(GpuCase({200, 8, 1, 2, 1, 64}, ksa), 64, 0.2),
      with(Packed(GpuCase({700, 8, 1, 2, 2, 192}, ksa), [](int32_t i) { return (i + 2) * 37 % 301; }), 128),
      with(Packed(GpuCase({260, 4, 1, 2, 2, 192, 2}, AttentionWindow::Full(), true), [](int32_t) { return 11; }), 128),
  };
  for (const int64_t dim : {10, 40, 96}) {
    for (const int64_t value_dim : {1, 24, 72, 300}) {
      cases.push_back(with(GpuCase({150, 8, 1, 4, 2, dim}, ksa), value_dim));
      cases.push_back(with(GpuCase({77, 3, 2, 3, 3, dim, 2}, AttentionWindow::Full(), true), value_dim, 0.3));
    }
  }
  return cases;
}

}  // namespace ksa::testing
