#include "kernels/attention/cudnn/problem.h"

namespace ksa::cuda_attention::cudnn {
namespace {

// On Hopper cuDNN's deterministic backward writes dS of all pairs (bf16) to its workspace, so that it is called for few
// heads at a time. Share: sequences and key/value heads of a call; no groups: not even one head fits.
constexpr int64_t kPairBytes = int64_t{9} << 28;  // one head of 32K tokens, or 16 of 8K

int64_t PairBytes(int64_t heads, int64_t tokens) {
  const int64_t padded = (tokens + 127) / 128 * 128;
  return heads * padded * padded * 2;
}

struct Share {
  int64_t sequences = 0;
  int64_t groups = 0;
};

Share ShareOf(const Problem& p) {
  if (!p.backward || !p.deterministic) {
    return {p.sequences, p.groups};
  }
  const int64_t heads_a_group = p.heads / p.groups;
  if (PairBytes(p.sequences * p.heads, p.tokens) <= kPairBytes) {
    return {p.sequences, p.groups};
  }
  for (int64_t groups = p.groups; groups > 0; --groups) {
    if (p.groups % groups == 0 && PairBytes(groups * heads_a_group, p.tokens) <= kPairBytes) {
      return {1, groups};
    }
  }
  return {};
}

template <typename Args>
Problem WholeProblem(const Args& args, bool backward, bool deterministic) {
  return {.sequences = args.layout.sequences,
          .heads = args.q.shape[1],
          .groups = args.k.shape[1],
          .row_heads = args.q.shape[1],
          .row_groups = args.k.shape[1],
          .tokens = args.layout.text_tokens,
          .head_dim = args.q.shape[2],
          .value_dim = args.v.shape[2],
          .backward = backward,
          .deterministic = deterministic};
}

// Every row of text is a query that sees all text up to itself, and no summary: none is seen before the window's end,
// unless they are seen within it too.
bool IsFullCausal(const SummaryLayout& layout, const AttentionWindow& window) {
  if (window.summaries && window.overlap) {
    return false;
  }
  const bool all_text = layout.first_chunk == 0 && layout.AllTextIsQuery() && window.chunks >= layout.chunks() - 1 &&
                        window.tokens >= layout.text_tokens;
  return all_text && layout.document_first_chunk == nullptr && layout.chunk_tokens == nullptr;
}

// Shorter sequences than a tile are not worth a library's start-up.
constexpr int64_t kFewestTokens = 128;

bool TakesHeads(const Problem& p) {
  return (p.value_dim == p.head_dim && (p.head_dim == 64 || p.head_dim == 128)) ||
         (p.head_dim == 192 && p.value_dim == 128);
}

template <typename Args>
bool TakesProblem(const Args& args, const Problem& problem) {
  return args.q.dtype == DType::kBF16 && TakesHeads(problem) && args.scale == 0.0 && problem.tokens >= kFewestTokens &&
         problem.sequences > 0 && IsFullCausal(args.layout, args.window) && ShareOf(problem).groups > 0;
}

}  // namespace

Problem ProblemOf(const AttentionForwardArgs& args) {
  return WholeProblem(args, false, true);
}

Problem ProblemOf(const AttentionBackwardArgs& args, bool deterministic) {
  return WholeProblem(args, true, deterministic);
}

bool Takes(const AttentionForwardArgs& args) {
  return TakesProblem(args, ProblemOf(args));
}

bool Takes(const AttentionBackwardArgs& args, bool deterministic) {
  return TakesProblem(args, ProblemOf(args, deterministic));
}

Problem PartOf(const Problem& whole) {
  const Share share = ShareOf(whole);
  Problem part = whole;
  part.sequences = share.sequences;
  part.groups = share.groups;
  part.heads = whole.heads / whole.groups * share.groups;
  return part;
}

// Backward, [b, h, T] each: fp32 sums of dq (or, to be deterministic, dS of all pairs), row sums, and dk and dv of
// every query head; and room for cuDNN's own.
int64_t WorkspaceBound(const Problem& p) {
  constexpr int64_t kOwn = int64_t{4} << 20;
  if (!p.backward) {
    return kOwn;
  }
  const int64_t rows = p.sequences * p.heads * p.tokens;
  const int64_t sums = p.deterministic ? 0 : rows * p.head_dim * 4;
  const int64_t pairs = p.deterministic ? PairBytes(p.sequences * p.heads, p.tokens) : 0;
  const bool as_they_are = p.heads == p.groups && p.head_dim == p.value_dim;
  const int64_t expanded = as_they_are ? 0 : rows * (p.head_dim + p.value_dim) * 4;
  return sums + pairs + expanded + rows * 8 + kOwn;
}

}  // namespace ksa::cuda_attention::cudnn
