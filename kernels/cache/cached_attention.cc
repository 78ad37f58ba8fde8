#include "kernels/cache/cached_attention.h"

#include "kernels/cache/cache_backends.h"
#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"

namespace ksa {
namespace {

constexpr const char* kOp = "CachedAttention";

void CheckSpans(const CachedAttentionArgs& args) {
  const int32_t* span = args.spans.As<int32_t>();
  for (int64_t i = 0; i < args.q.rows(); ++i) {
    int64_t keys = 0;
    for (int s = 0; s < kKeySpans; ++s, span += 2) {
      const TensorView& k = s == kKeySpans - 1 ? args.new_k : args.k;
      const int64_t rows = k.empty() ? 0 : k.rows();
      KSA_CHECK(span[0] >= 0 && span[1] >= 0 && int64_t{span[0]} + span[1] <= (span[1] == 0 ? span[0] : rows),
                "{}: query {} sees {} rows from {} on, of {}",
                kOp,
                i,
                span[1],
                span[0],
                rows);
      keys += span[1];
    }
    KSA_CHECK(keys <= args.most_keys, "{}: query {} sees {} keys; at most {} were said", kOp, i, keys, args.most_keys);
  }
}

void CheckCall(const ArgumentCheck& check, const CachedAttentionArgs& args) {
  const DType dtype = args.q.dtype;
  check.Floating("q", args.q);
  check.Rank("q", args.q, 3);
  check.Rank("k", args.k, 3);
  check.Rank("out", args.out, 3);
  const int64_t n = args.q.rows();
  const int64_t h = args.q.shape[1];
  const int64_t g = args.k.shape[1];
  const int64_t e = args.q.shape[2];
  const int64_t c = args.out.shape[2];
  KSA_CHECK(g > 0 && h % g == 0 && e > 0 && c > 0, "{}: {} heads cannot share {}", kOp, h, g);
  check.Tensor("q", args.q, dtype, args.q.shape);
  check.Tensor("k", args.k, dtype, {args.k.rows(), g, e});
  check.Optional("v", args.v, dtype, {args.k.rows(), g, c});
  if (!args.new_k.empty()) {
    check.Tensor("new_k", args.new_k, dtype, {args.new_k.rows(), g, e});
    check.Optional("new_v", args.new_v, dtype, {args.new_k.rows(), g, c});
    KSA_CHECK(args.v.empty() == args.new_v.empty(), "{}: values beside keys, of kept or of new rows alone", kOp);
  }
  KSA_CHECK(!args.v.empty() || c <= e, "{}: values are the first {} columns of keys of {}", kOp, c, e);
  check.Tensor("spans", args.spans, DType::kI32, {n, kKeySpans, 2});
  check.Tensor("out", args.out, dtype, {n, h, c});
  KSA_CHECK(args.scale >= 0.0 && args.most_keys >= 0, "{}: scale {}, {} keys", kOp, args.scale, args.most_keys);
}

// At most: where sequences differ in length, the longest stands for all.
OpWork WorkOf(const CachedAttentionArgs& args) {
  const int64_t n = args.q.rows();
  const int64_t width = args.q.shape[2] + args.out.shape[2];
  const int64_t read = args.v.empty() ? args.q.shape[2] : width;
  OpWork work = {.kind = WorkKind::kRows};
  work.useful = work.done = 2 * n * args.q.shape[1] * width * args.most_keys;
  work.bytes = (n * args.k.shape[1] * read * args.most_keys + args.q.size() + args.out.size()) * SizeOf(args.q.dtype);
  return work;
}

}  // namespace

void CachedAttention(const CachedAttentionArgs& args, const Stream& stream) {
  const ArgumentCheck check(kOp, stream);
  CheckCall(check, args);
  RunOp(
      kOp,
      stream,
      {args.q.shape, args.k.shape},
      [&] { return WorkOf(args); },
      [&] {
        if (args.q.rows() == 0) {
          return;
        }
        if (!stream.device.IsCpu()) {
          Allocator& scratch = RequireScratch(kOp, args.allocator);
          KSA_CUDA_OR_FAIL(kOp, stream, cuda::CachedAttention(args, scratch, stream));
          static_cast<void>(scratch);
          return;
        }
        CheckSpans(args);
        DispatchFloating(args.q.dtype, [&](auto element) { cpu::CachedAttention<decltype(element)>(args, stream); });
      });
}

}  // namespace ksa
