#include <cmath>
#include <vector>

#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/distill/attention_term_backends.h"

namespace ksa::cpu {
namespace {

// Of one row [d]. Returns its sum.
template <typename T>
struct Row {
  using A = Accumulator<T>;

  const T* student;
  const T* teacher;
  int64_t d;
  bool normalize;

  [[nodiscard]] A Root(const T* x) const {
    const A squares = SumOf<A>(d, [&](int64_t i) { return static_cast<A>(x[i]) * static_cast<A>(x[i]); });
    return std::sqrt(squares / static_cast<A>(d));
  }

  [[nodiscard]] static A Factor(A root) { return A{1} / (root + A(1e-6)); }

  A Run(T* gradient, A scale) const {
    const A root = normalize ? Root(student) : A{0};
    const A a = normalize ? Factor(root) : A{1};
    const A b = normalize ? Factor(Root(teacher)) : A{1};
    const auto gap = [&](int64_t i) { return a * static_cast<A>(student[i]) - b * static_cast<A>(teacher[i]); };
    constexpr A kMost = static_cast<A>(kAttentionTermMost);
    const A sum = SumOf<A>(d, [&](int64_t i) {
      const A square = gap(i) * gap(i);
      return square < kMost || std::isnan(square) ? square : kMost;
    });
    if (gradient == nullptr) {
      return sum;
    }
    const auto slope = [&](int64_t i) {
      const A x = gap(i);
      return x * x < kMost ? A{2} * x : A{0};
    };
    // The divisor falls with every element: d a / d s_j = -a^2 s_j / (d root).
    A back{0};
    if (normalize && root > A{0}) {
      back = SumOf<A>(d, [&](int64_t i) { return slope(i) * static_cast<A>(student[i]); }) * a * a /
             (static_cast<A>(d) * root);
    }
    for (int64_t i = 0; i < d; ++i) {
      gradient[i] = static_cast<T>(scale * (a * slope(i) - back * static_cast<A>(student[i])));
    }
    return sum;
  }
};

}  // namespace

template <typename T>
void AttentionTerm(const AttentionTermArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t n = args.student.rows();
  const int64_t d = args.student.cols();
  std::vector<A> sums(static_cast<size_t>(n));
  ParallelFor(stream, n, d, [&](int64_t r) {
    const Row<T> row = {args.student.As<T>() + r * d, args.teacher.As<T>() + r * d, d, args.normalize};
    T* gradient = args.dstudent.empty() ? nullptr : args.dstudent.As<T>() + r * d;
    sums[static_cast<size_t>(r)] = row.Run(gradient, static_cast<A>(args.scale));
  });
  double total = 0.0;
  for (const A sum : sums) {
    total += static_cast<double>(sum);
  }
  args.sum.As<double>()[0] += total;
}

template void AttentionTerm<double>(const AttentionTermArgs&, const Stream&);
template void AttentionTerm<float>(const AttentionTermArgs&, const Stream&);
template void AttentionTerm<BFloat16>(const AttentionTermArgs&, const Stream&);

}  // namespace ksa::cpu
