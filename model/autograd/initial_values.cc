#include "model/autograd/initial_values.h"

#include <algorithm>

#include "kernels/core/dispatch.h"
#include "kernels/core/philox.h"

namespace ksa {

void FillInitial(const ParameterSpec& spec,
                 uint64_t seed,
                 const HeldRuns& held,
                 const FlatRange& range,
                 int threads,
                 const TensorView& values) {
  const uint64_t key = NamedKey(seed, spec.name);
  const double std = spec.init_std;
  DispatchAccumulator(values.dtype, [&](auto element) {
    using T = decltype(element);
    T* out = values.As<T>();
    if (std == 0.0 && spec.initial == nullptr) {
      std::fill_n(out, values.size(), T{1});
      return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < values.size(); ++i) {
      const auto whole = static_cast<uint64_t>(held.InWhole(range.begin + i));
      out[i] = static_cast<T>(spec.initial == nullptr ? NormalAt(key, whole) * std : spec.initial(key, whole));
    }
  });
}

}  // namespace ksa
