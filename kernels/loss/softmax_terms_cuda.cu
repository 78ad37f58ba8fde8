#include <cmath>
#include <type_traits>

#include "kernels/core/cuda.h"
#include "kernels/loss/softmax_pack.cuh"
#include "kernels/loss/softmax_partial.cuh"
#include "kernels/loss/softmax_terms_cuda.h"

namespace ksa::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kUnroll = 2;  // packs on their way at once, of both models
constexpr int kStatistics = 6;

template <typename G>
struct TermRows {
  const float* logits;
  const float* teacher;  // or null
  const int32_t* targets;
  float* stats;
  float* losses;
  float* largest;  // or null
  float* terms;
  int64_t term_stride;
  G* gradient;  // null: the losses alone
  int64_t n;
  int64_t v;
  int64_t first_id;
  int64_t vocabulary;
  int part;
  int parts;
  float scale;
  float lm;
  float kl;
  float z;
};

// Of some of a teacher's logits: exponentials, and how far they are above the student's.
struct TeacherPartial {
  float largest = -INFINITY;
  float sum = 0.0F;
  float gap = 0.0F;

  template <bool kExactly, int kWidth>
  __device__ void Add(const Pack<kWidth>& teacher, const float* logits) {
    float most = teacher.x[0];
#pragma unroll
    for (int e = 1; e < kWidth; ++e) {
      most = fmaxf(most, teacher.x[e]);
    }
    if (most > largest) {
      const float factor = Exponential<kExactly>(largest - most);
      sum *= factor;
      gap *= factor;
      largest = most;
    }
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const float exponential = Exponential<kExactly>(teacher.x[e] - largest);
      sum += exponential;
      gap += exponential * (teacher.x[e] - logits[e]);
    }
  }
};

// A block a row.
template <typename G, int kWidth>
__global__ void __launch_bounds__(kThreads) TermStatisticsKernel(const TermRows<G> rows) {
  __shared__ Partial of_warps[3][kWarps];
  const int64_t row = blockIdx.x;
  const float* logits = rows.logits + row * rows.v;
  const int64_t id = rows.targets[row];
  Partial student{-INFINITY, 0.0F};
  TeacherPartial teacher;
  if (id >= 0) {
    ForPacks<kThreads, kUnroll, kWidth>(
        logits, rows.v, [&](const Pack<kWidth>& pack, int64_t /*i*/) { Add<kExact<G>>(pack, student); });
    if (rows.teacher != nullptr) {
      ForPacks<kThreads, kUnroll, kWidth>(
          rows.teacher + row * rows.v, rows.v, [&](const Pack<kWidth>& pack, int64_t i) {
            teacher.template Add<kExact<G>, kWidth>(pack, logits + i);
          });
    }
  }
  const Partial all = JoinBlock<kExact<G>, kWarps>(student, of_warps[0]);
  const Partial of_teacher = JoinBlock<kExact<G>, kWarps>({teacher.largest, teacher.sum}, of_warps[1]);
  const Partial gaps = JoinBlock<kExact<G>, kWarps>({teacher.largest, teacher.gap}, of_warps[2]);
  if (threadIdx.x == 0) {
    const int64_t target = id - rows.first_id;
    float* stats = rows.stats + (rows.part * rows.n + row) * kStatistics;
    stats[0] = all.largest;
    stats[1] = all.sum;
    stats[2] = id >= 0 && target >= 0 && target < rows.v ? logits[target] : 0.0F;
    stats[3] = of_teacher.largest;
    stats[4] = of_teacher.sum;
    stats[5] = gaps.sum;
  }
}

// Of one row, all parts' or one's.
struct TermStats {
  Partial student;
  Partial teacher;
  float gap;
  float target_logit;
};

template <typename G>
__device__ TermStats JoinParts(const TermRows<G>& rows, int64_t row) {
  TermStats all{{-INFINITY, 0.0F}, {-INFINITY, 0.0F}, 0.0F, 0.0F};
  const auto of = [&](int part) { return rows.stats + (part * rows.n + row) * kStatistics; };
  const auto factor = [](float largest, float of_all) {
    return largest == of_all ? 1.0F : Exponential<kExact<G>>(largest - of_all);
  };
  for (int part = 0; part < rows.parts; ++part) {
    all.student.largest = fmaxf(all.student.largest, of(part)[0]);
    all.teacher.largest = fmaxf(all.teacher.largest, of(part)[3]);
    all.target_logit += of(part)[2];
  }
  for (int part = 0; part < rows.parts; ++part) {
    all.student.sum += of(part)[1] * factor(of(part)[0], all.student.largest);
    const float of_teacher = factor(of(part)[3], all.teacher.largest);
    all.teacher.sum += of(part)[4] * of_teacher;
    all.gap += of(part)[5] * of_teacher;
  }
  return all;
}

// The terms of a row.
struct Terms {
  float lm;
  float kl;
  float lse;
};

template <typename G>
__device__ Terms TermsOf(const TermRows<G>& rows, const TermStats& all) {
  const float log_sum = logf(all.student.sum);
  Terms terms{log_sum - (all.target_logit - all.student.largest), 0.0F, all.student.largest + log_sum};
  if (rows.teacher != nullptr) {
    terms.kl = all.gap / all.teacher.sum - (all.teacher.largest + logf(all.teacher.sum)) + terms.lse;
  }
  return terms;
}

template <typename G>
__device__ void WriteTerms(const TermRows<G>& rows, int64_t row, const Terms& terms, float largest) {
  const int64_t id = rows.targets[row];
  const float z = terms.lse * terms.lse;
  const auto seen = [&](float value) { return id < 0 ? 0.0F : (id < rows.vocabulary ? value : NAN); };
  rows.losses[row] = seen(rows.lm * terms.lm + rows.kl * terms.kl + rows.z * z);
  rows.terms[row] = seen(terms.lm);
  rows.terms[rows.term_stride + row] = seen(terms.kl);
  rows.terms[2 * rows.term_stride + row] = seen(z);
  if (rows.largest != nullptr) {
    rows.largest[row] = id < 0 ? -INFINITY : largest;
  }
}

// A block a row.
template <typename G, int kWidth>
__global__ void __launch_bounds__(kThreads) FinishTermsKernel(const TermRows<G> rows) {
  const int64_t row = blockIdx.x;
  const float* logits = rows.logits + row * rows.v;
  const int64_t id = rows.targets[row];
  const TermStats all = JoinParts(rows, row);
  const Terms terms = TermsOf(rows, all);
  if (threadIdx.x == 0) {
    WriteTerms(rows, row, terms, all.student.largest);
  }
  if (rows.gradient == nullptr) {
    return;
  }
  G* gradient = rows.gradient + row * rows.v;
  if (id < 0) {
    const Pack<kWidth> zero{};
    for (int64_t i = threadIdx.x * kWidth; i < rows.v; i += kThreads * kWidth) {
      zero.Store(gradient + i);
    }
    return;
  }
  const int64_t target = id - rows.first_id;
  const float weight = rows.scale * (rows.lm + rows.kl + 2.0F * rows.z * terms.lse);
  const float factor = id < rows.vocabulary ? weight / all.student.sum : NAN;
  const float teacher_factor = rows.teacher == nullptr ? 0.0F : rows.scale * rows.kl / all.teacher.sum;
  const float* teacher = rows.teacher == nullptr ? nullptr : rows.teacher + row * rows.v;
  ForPacks<kThreads, kUnroll, kWidth>(logits, rows.v, [&](Pack<kWidth>& pack, int64_t i) {
    Pack<kWidth> other{};
    if (teacher != nullptr) {
      other.Load(teacher + i);
    }
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      float x = Exponential<kExact<G>>(pack.x[e] - all.student.largest) * factor;
      if (teacher != nullptr) {
        x -= Exponential<kExact<G>>(other.x[e] - all.teacher.largest) * teacher_factor;
      }
      pack.x[e] = i + e == target ? x - rows.scale * rows.lm : x;
    }
    pack.Store(gradient + i);
  });
}

template <typename G>
TermRows<G> RowsOf(const SoftmaxTermsArgs& args) {
  return {.logits = args.rows.logits.As<float>(),
          .teacher = args.teacher.As<float>(),
          .targets = args.rows.targets,
          .stats = args.stats.As<float>(),
          .losses = args.rows.losses,
          .largest = args.rows.largest,
          .terms = args.terms,
          .term_stride = args.term_stride,
          .gradient = args.rows.gradient.As<G>(),
          .n = args.rows.logits.rows(),
          .v = args.rows.logits.cols(),
          .first_id = args.first_id,
          .vocabulary = args.vocabulary,
          .part = args.part,
          .parts = static_cast<int>(args.stats.rows()),
          .scale = args.rows.scale,
          .lm = static_cast<float>(args.weights.lm),
          .kl = static_cast<float>(args.weights.kl),
          .z = static_cast<float>(args.weights.z)};
}

LaunchShape ShapeOf(const SoftmaxTermsArgs& args) {
  return {.grid = dim3(static_cast<unsigned>(args.rows.logits.rows())), .block = dim3(kThreads)};
}

// call(gradient element, width of a pack)
template <typename Call>
void DispatchPacks(const SoftmaxTermsArgs& args, const Call& call) {
  const auto with_width = [&](auto element) {
    if (args.rows.logits.cols() % 4 == 0) {
      call(element, std::integral_constant<int, 4>());
    } else {
      call(element, std::integral_constant<int, 1>());
    }
  };
  args.rows.gradient.dtype == DType::kBF16 ? with_width(BFloat16()) : with_width(0.0F);
}

}  // namespace

void TermStatistics(const SoftmaxTermsArgs& args, const Stream& stream) {
  DispatchPacks(args, [&](auto element, auto width) {
    using G = decltype(element);
    Launch("TermStatisticsKernel", stream, ShapeOf(args), TermStatisticsKernel<G, width()>, RowsOf<G>(args));
  });
}

void FinishTerms(const SoftmaxTermsArgs& args, const Stream& stream) {
  DispatchPacks(args, [&](auto element, auto width) {
    using G = decltype(element);
    Launch("FinishTermsKernel", stream, ShapeOf(args), FinishTermsKernel<G, width()>, RowsOf<G>(args));
  });
}

}  // namespace ksa::cuda
