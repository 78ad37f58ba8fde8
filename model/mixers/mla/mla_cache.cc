#include "model/mixers/mla/mla_cache.h"

#include "kernels/cache/cached_attention.h"

namespace ksa {

Tensor MlaCache::Attend(
    const ExecContext& cx, const TensorView& q, const TensorView& rows, const MixerCall& call, double scale) const {
  const DecodeStep::Places& places = call.step->PlacesIn(kept_);
  const auto one_head = [](const TensorView& x) { return x.Reshape({x.rows(), 1, x.cols()}); };
  Tensor out = cx.Empty({q.rows(), q.shape[1], latent_}, q.dtype);
  CachedAttention({.q = q,
                   .k = one_head(rows_.rows()),
                   .new_k = one_head(rows),
                   .spans = places.spans.Rows(0, q.rows()),
                   .out = out,
                   .most_keys = places.most_keys,
                   .scale = scale,
                   .allocator = cx.allocator},
                  cx.stream);
  return out;
}

}  // namespace ksa
