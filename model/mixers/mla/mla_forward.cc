// Forward of a layer with latents. Every row, text or summary, yields queries, a latent and a rotary part of keys.
#include <cmath>
#include <utility>

#include "kernels/copy/column_block.h"
#include "kernels/latent/absorbed_heads.h"
#include "model/mixers/decode_call.h"
#include "model/mixers/mla/mla_cache.h"
#include "model/mixers/mla/mla_mixer.h"
#include "model/ops/attention.h"
#include "model/ops/collectives.h"
#include "model/ops/context_latents.h"
#include "model/ops/heads.h"
#include "model/ops/latent.h"
#include "model/ops/linear.h"
#include "model/ops/norm.h"
#include "model/ops/parallel_linear.h"
#include "model/ops/rows.h"
#include "model/ops/short_conv.h"

namespace ksa {
namespace {

constexpr double kLatentEps = 1e-6;  // whatever rms_norm_eps says, as in DeepSeek-V3

}  // namespace

// Summary rows by their own weight, until annealing is over.
Var BoundMla::Product(const ExecContext& cx, const Var& x, const WeightPair& weight, const MixerCall& call) const {
  return SplitLinear(cx, x, call.layout.text_rows(), *weight.text, call.mix > 0.0 ? weight.summary : nullptr);
}

// `own`: with the summaries' own norm of rows from `text_rows` on, if there is one.
Var BoundMla::Norm(const ExecContext& cx, const Var& x, const WeightPair& weight, int64_t text_rows, bool own) const {
  Parameter* summary = own && x.rows() > text_rows ? weight.summary : nullptr;
  return RmsNorm(cx, x, summary == nullptr ? x.rows() : text_rows, *weight.text, summary, kLatentEps);
}

Var BoundMla::Convolve(
    const ExecContext& cx, const Var& x, Parameter* taps, bool queries, const MixerCall& call) const {
  if (taps == nullptr) {
    return x;
  }
  const ShortConvSpec spec = {.layout = call.layout, .whole = call.whole, .weight = taps};
  if (call.cache == nullptr) {
    return ShortConv(cx, x, spec);
  }
  auto& cache = CacheOf<MlaCache>(call);
  return (queries ? cache.q_taps : cache.kv_taps).Convolve(cx, x, spec, call);
}

Var BoundMla::Rotate(const ExecContext& cx, const Var& x, int head_dim, const MixerCall& call) const {
  if (options_.rope == RopeUse::kNone) {
    return x;
  }
  const RowPositions positions = PositionsOf(call, rope_table_, true);
  return RotateTails(cx, x, {.layout = positions.layout, .table = positions.table, .head_dim = head_dim});
}

// Whether summary rows of x, made with `weight`, are mixed of own and base ones.
bool BoundMla::Mixes(const Var& x, const WeightPair& weight, const MixerCall& call) const {
  return weight.summary != nullptr && call.mix > 0.0 && call.mix < 1.0 && x.rows() > call.layout.text_rows();
}

BoundMla::Latents BoundMla::MakeLatents(const ExecContext& cx, const Var& entered, const MixerCall& call) const {
  const int64_t text_rows = call.layout.text_rows();
  const bool own = call.mix > 0.0 && weights_.kv_a.summary != nullptr;
  const Var rows = Convolve(cx, Product(cx, entered, weights_.kv_a, call), weights_.kv_conv, false, call);
  std::array<Var, 2> parts = SplitColumns(cx, rows, config_.kv_lora_rank);
  Var latent = Norm(cx, parts[0], weights_.kv_norm, text_rows, own);
  Var rope = parts[1];
  if (Mixes(rows, weights_.kv_a, call)) {
    const Var summaries = Rows(cx, entered, text_rows, rows.rows() - text_rows);
    const auto base = SplitColumns(cx, Linear(cx, summaries, *weights_.kv_a.text), config_.kv_lora_rank);
    latent = MixRows(cx, latent, Norm(cx, base[0], weights_.kv_norm, base[0].rows(), false), text_rows, call.mix);
    rope = MixRows(cx, rope, base[1], text_rows, call.mix);
  }
  return {latent, Rotate(cx, rope, config_.qk_rope_head_dim, call)};
}

Var BoundMla::MakeQueries(const ExecContext& cx, const Var& entered, const MixerCall& call) const {
  const int64_t text_rows = call.layout.text_rows();
  const Var x = Rows(cx, entered, 0, call.RowsOut().total());
  const WeightPair& weight = weights_.q_b == nullptr ? weights_.q : weights_.q_a;
  const bool own = call.mix > 0.0 && weight.summary != nullptr;
  const auto finish = [&](const Var& product, int64_t first_summary, bool with_own) {
    return weights_.q_b == nullptr ? product : Norm(cx, product, weights_.q_norm, first_summary, with_own);
  };
  Var q = finish(Product(cx, x, weight, call), text_rows, own);
  if (Mixes(x, weight, call)) {
    const Var base = Linear(cx, Rows(cx, x, text_rows, x.rows() - text_rows), *weight.text);
    q = MixRows(cx, q, finish(base, base.rows(), false), text_rows, call.mix);
  }
  if (weights_.q_b != nullptr) {
    q = Linear(cx, q, *weights_.q_b);
  }
  return Rotate(cx, Convolve(cx, q, weights_.q_conv, true, call), config_.key_dim(), call);
}

std::unique_ptr<LayerCache> BoundMla::MakeCache(const ExecContext& cx, const CacheSpec& spec) const {
  auto cache = std::make_unique<MlaCache>(cx, spec, window_, config_.kv_lora_rank, config_.qk_rope_head_dim);
  cache->q_taps = KeptTaps(cx, spec, weights_.q_conv);
  cache->kv_taps = KeptTaps(cx, spec, weights_.kv_conv);
  return cache;
}

// Latents stay as they are: queries take what expands keys upon themselves, and the sums of latents are expanded.
Var BoundMla::AttendToLatents(const ExecContext& cx, const Var& q, const Tensor& rows, const MixerCall& call) const {
  const int e = config_.key_dim();
  const int64_t heads = q.cols() / e;
  const TensorView weight =
      weights_.kv_b->value.Reshape({heads, config_.qk_nope_head_dim + config_.v_head_dim, config_.kv_lora_rank});
  const Tensor absorbed = cx.Empty({q.rows(), heads, rows.cols()}, q.value.dtype());
  AbsorbQueries({.q = Heads(q.value, e), .weight = weight, .y = absorbed}, cx.stream);
  const Tensor sums = CacheOf<MlaCache>(call).Attend(cx, absorbed, rows, call, 1.0 / std::sqrt(static_cast<double>(e)));
  Tensor out = cx.Empty({q.rows(), heads * config_.v_head_dim}, q.value.dtype());
  ExpandValues({.x = sums, .weight = weight, .y = Heads(out, config_.v_head_dim)}, cx.stream);
  return Result(cx, std::move(out), q.placement);
}

Var BoundMla::Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Var entered = TensorEnter(cx, normed, call.RowsIn());
  const Latents latents = MakeLatents(cx, entered, call);
  const Var q = MakeQueries(cx, entered, call);
  const LatentHeadsSpec heads = {.nope_columns = config_.qk_nope_head_dim, .value_columns = config_.v_head_dim};
  const int e = config_.key_dim();
  Tensor kept;
  if (call.cache != nullptr) {
    kept = cx.Empty({latents.latent.rows(), latents.latent.cols() + latents.rope.cols()}, latents.latent.value.dtype());
    CopyBlock({latents.latent.value, 0, latents.latent.cols()}, {kept, 0, latents.latent.cols()}, cx.stream);
    CopyBlock(
        {latents.rope.value, 0, latents.rope.cols()}, {kept, latents.latent.cols(), latents.rope.cols()}, cx.stream);
    CacheOf<MlaCache>(call).Keep(cx, kept, call);
  }
  Var mixed;
  if (call.step != nullptr) {
    mixed = AttendToLatents(cx, q, kept, call);
  } else if (IsContextParallel(cx)) {
    const ContextAttentionSpec spec = {.whole = call.whole, .window = window_, .head_dim = e};
    const auto expander = MakeLatentExpander(*weights_.kv_b, config_.qk_rope_head_dim, heads);
    mixed = ContextAttention(cx, q, StartContextLatents(cx, latents.latent, latents.rope, expander, spec));
  } else {
    const auto [k, v] = LatentHeads(cx, Linear(cx, latents.latent, *weights_.kv_b), latents.rope, heads);
    mixed = Attention(cx, q, k, v, {.layout = call.layout, .window = window_, .head_dim = e});
  }
  return LinearReduce(cx, mixed, call.RowsOut(), *weights_.out, call.unread);
}

}  // namespace ksa
